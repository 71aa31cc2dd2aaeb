"""Write or check all reference pages."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable
from pathlib import Path

from scripts.reference import api, commands, errors, rest, tables

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "reference"
PAGES: dict[str, Callable[[], str]] = {
    "cli.md": commands.page,
    "topology.md": tables.topology_page,
    "scenario.md": tables.scenario_page,
    "settings.md": tables.settings_page,
    "errors.md": errors.page,
    "rest.md": rest.page,
    "nextmini_py.md": api.nextmini_page,
    "orchestrator.md": api.orchestrator_page,
}
NOTICE = "<!-- Made from the code by `make docs`; change the code, not this page. -->\n\n"


def main() -> int:
    """Write the pages, or say which are out of date."""
    parser = argparse.ArgumentParser(prog="python -m scripts.reference", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail on a difference")
    options = parser.parse_args()
    stale = []
    for name, make in PAGES.items():
        path = FOLDER / name
        text = NOTICE + make().rstrip() + "\n"
        before = path.read_text() if path.exists() else ""
        if text == before:
            continue
        stale.append(name)
        if options.check:
            difference = difflib.unified_diff(
                before.splitlines(), text.splitlines(), name, "from the code", n=1
            )
            print("\n".join(list(difference)[:20]), file=sys.stderr)
        else:
            path.write_text(text)
            print(f"wrote {path.relative_to(FOLDER.parents[1])}")
    if options.check and stale:
        print(f"out of date: {', '.join(stale)}\n    hint: make docs", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
