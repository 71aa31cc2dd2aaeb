"""`nm sql`: look at the lab's state in Postgres, and change it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from orchestrator.cli.common import LabOption, home


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(sql)


def sql(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[-- PSQL-OPTIONS…]", help="Options of psql, such as --csv.")
    ] = None,
    statement: Annotated[
        list[str] | None,
        typer.Option("-c", "--command", metavar="SQL", help="Run this and end; several are run in order."),
    ] = None,
    dsn: Annotated[
        bool, typer.Option("--dsn", help="Print how other programs connect, as libpq reads it (native labs).")
    ] = False,
    lab: LabOption = None,
) -> None:
    """Open psql on the lab's database, or run statements; its exit code is ours."""
    from orchestrator.deploy import sql_command
    from orchestrator.errors import UsageError
    from orchestrator.lab import find

    directory, state = find.find_lab(home(), lab)
    if dsn:
        if state.backend != "native":
            raise UsageError(
                f"the database of lab {state.lab} is inside its container and listens nowhere else",
                id="sql.inside",
                hint="`nm sql` runs psql there",
            )
        print(sql_command.conninfo(directory))
        return
    from orchestrator.cli.nodes import become_program

    # A statement that fails ends what is run: scripts see it by the exit code.
    options = ["--set=ON_ERROR_STOP=1"] if statement or not sys.stdin.isatty() else []
    for each in statement or ():
        options += ["--command", each]
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    become_program(
        sql_command.psql_command(directory, state, [*options, *(arguments or ())], terminal=terminal)
    )
