"""The commands `metrics export` and `app-flows`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from orchestrator.cli.common import LabOption, Output, OutputOption, emit, notify, table

MANY = 100
"""Flows that a table has; JSON has all."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    metrics = typer.Typer(
        help="Read the counters that nodes report.", no_args_is_help=True, rich_markup_mode=None
    )
    metrics.command()(export)
    app.add_typer(metrics, name="metrics")
    app.command("app-flows")(app_flows)


LastOption = Annotated[
    str | None, typer.Option("--last", metavar="TIME", help="Only what is not older, such as '10 min'.")
]


def export(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv|FILE.parquet")],
    table_: Annotated[
        Literal["links", "flows", "nodes", "groups", "sessions", "app-flows", "route-changes"],
        typer.Option("--table", help="Which counters."),
    ] = "links",
    last: LastOption = None,
    lab: LabOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Write what Postgres has of the counters to a CSV or Parquet file."""
    from orchestrator.lab import Lab

    count = Lab.attach(lab).metrics.export(file, table_, last)
    if output is Output.json:
        emit({"file": str(file), "table": table_, "rows": count})
    else:
        notify(f"{count} rows in {file}")


def app_flows(last: LastOption = None, lab: LabOption = None, output: OutputOption = Output.table) -> None:
    """List the flows of programs, those that ended too; a table has the latest, JSON has all."""
    from orchestrator.lab import Lab

    rows = Lab.attach(lab).metrics.rows("app-flows", last)
    if output is Output.json:
        emit(rows)
    elif not rows:
        notify("no flows")
    else:
        note = f"the latest {MANY} of {len(rows)} flows; `-o json` has all" if len(rows) > MANY else ""
        columns = ("flow", "from", "to", "state", "seconds", "bytes", "bytes back", "answered ms", "route")
        table(columns, [_cells(row) for row in rows[-MANY:]], note=note)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    ended = row["finish_us"] is not None
    seconds = f"{(row['finish_us'] - row['start_us']) / 1e6:.3f}" if ended else ""
    answered = "" if row["answered_us"] is None else f"{row['answered_us'] / 1000:.3f}"
    return (
        row["name"],
        str(row["node_id"]),
        str(row["dst_node_id"] or ""),
        "ended" if ended else "open",
        seconds,
        str(row["bytes"]),
        str(row["rx_bytes"]),
        answered,
        str(row["route_id"] or ""),
    )
