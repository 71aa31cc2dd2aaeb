"""The command line: one file per noun, each a thin wrapper around `orchestrator.lab`.

A command's module imports only Typer at its top and everything else when the command runs, so that `nm
--help` does not load Docker's SDK. Only data goes to stdout; messages, progress and errors go to stderr.
"""

from __future__ import annotations

import sys


def start() -> None:
    """Run the command line of this process and exit.

    A node's or a controller's image has the package without what a host needs; there the error says what to
    install instead of showing a traceback.
    """
    try:
        from orchestrator.cli.main import main
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "orchestrator":
            raise
        print(
            f"nm is not installed completely: the module `{error.name}` is missing\n"
            f"    hint: {sys.executable} -m pip install nm-testbed\n"
            "    [install.incomplete]",
            file=sys.stderr,
        )
        sys.exit(4)
    main()
