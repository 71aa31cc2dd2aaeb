"""The command `view`: a page with a picture of a running lab."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import LabOption, Output, OutputOption, emit, home, notify

if TYPE_CHECKING:
    from orchestrator.view.server import Address


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(view)


def view(
    lab: LabOption = None,
    port: Annotated[
        int, typer.Option(min=0, max=65_535, metavar="P", help="Port of loopback; 0 takes a free one.")
    ] = 0,
    open_: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in a browser of this machine.")
    ] = True,
    results: Annotated[
        Path, typer.Option(metavar="DIR", help="Where runs have their results folders, for their reports.")
    ] = Path("results"),
    output: OutputOption = Output.table,
) -> None:
    """Serve a page that shows a lab as it is, and changes its links; ends with Ctrl-C."""
    from orchestrator.lab import AsyncLab, loop_thread
    from orchestrator.lab.find import find_lab
    from orchestrator.view.server import serve

    directory, state = find_lab(home(), lab)
    running = AsyncLab(directory, state)

    def ready(address: Address) -> None:
        if output is Output.json:
            emit({"url": address.url, "port": address.port, "token": address.token})
        else:
            print(address.url, flush=True)
            notify(f"the page of lab {running.name}; ends with Ctrl-C")
        if open_:
            _open(address.url)

    loop_thread.call(serve(running, directory, port=port, results=results.absolute(), ready=ready))


def _open(url: str) -> None:
    """Open a page in a browser, where there is a screen; without one, a browser would take the terminal."""
    import os
    import threading
    import webbrowser

    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return
    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
