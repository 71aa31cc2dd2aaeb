"""Commands on services: `restart`; and `cp`, for nodes as well."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.common import LabOption, Output, OutputOption, emit, home, notify, progress


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(restart)
    app.command()(cp)


def restart(
    services: Annotated[
        str,
        typer.Argument(metavar="NODE/SERVICE[,…]", help="Such as `3/redis`, `2-4/web` or `all/web`."),
    ],
    lab: LabOption = None,
    timeout: Annotated[
        float, typer.Option(metavar="S", min=0.1, help="How long nothing may change while it is waited for.")
    ] = 60.0,
    output: OutputOption = Output.table,
) -> None:
    """Restart services; returns when they are ready."""
    from orchestrator.lab import find, loop_thread
    from orchestrator.lab.service import restart_services, select_services

    directory, state = find.find_lab(home(), lab)
    chosen = select_services(directory, state, services)
    with progress() as say:
        done = loop_thread.call(restart_services(directory, chosen, say, timeout))
    if output is Output.json:
        emit([each.as_json() for each in done])
        return
    for each in done:
        notify(f"service {each.service} in node {each.node} is {each.state}")


def cp(
    source: Annotated[
        str, typer.Argument(metavar="FROM", help="A path, `NODE:/path`, `NODE/SERVICE:/path`.")
    ],
    target: Annotated[str, typer.Argument(metavar="TO", help="The same; one of both is on this machine.")],
    lab: LabOption = None,
) -> None:
    """Copy a file or a folder into a node or a service, or out of it."""
    from orchestrator.lab import find
    from orchestrator.lab.copying import copy, parse

    directory, state = find.find_lab(home(), lab)
    copy(directory, state, parse(directory, state, source), parse(directory, state, target))
