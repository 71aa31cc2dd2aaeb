"""Commands that measure this machine: `bench fidelity`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import BackendName, Output, OutputOption, emit, progress, table

if TYPE_CHECKING:
    from orchestrator.bench import Row


def register(app: typer.Typer) -> None:
    """Add the commands."""
    bench = typer.Typer(help="Measure this machine.", no_args_is_help=True, rich_markup_mode=None)
    bench.command("fidelity")(fidelity)
    app.add_typer(bench, name="bench")


def fidelity(
    quick: Annotated[
        bool, typer.Option("--quick", help="Send a tenth of the traffic: for a first impression.")
    ] = False,
    only: Annotated[
        str, typer.Option(metavar="NAMES", help="Rows to measure, separated by commas; all unless given.")
    ] = "",
    backend: Annotated[BackendName, typer.Option(help="What carries the lab.")] = BackendName.native,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 6 when a row is not kept.")] = False,
    output: OutputOption = Output.table,
) -> None:
    """Measure on a lab of its own whether links do what is requested, and take it down."""
    from orchestrator.bench import lab_ends, measure, summary
    from orchestrator.errors import FidelityBroken

    rows = [row.quick() if quick else row for row in _chosen(only)]
    with progress() as say, lab_ends(backend.value) as ends:
        results = measure(rows, ends, say)
    found = summary(rows, results)
    if output is Output.json:
        emit(found)
    else:
        words = {True: "kept", False: "BROKEN", None: "not measured"}
        lines = [
            (
                each["name"],
                each["title"],
                ", ".join(f"{name} {value:g}" for name, value in each["measured"].items()) or each["reason"],
                each["bar"],
                words[each["ok"]],
            )
            for each in found["rows"]
        ]
        table(("row", "requested", "measured", "bar", "verdict"), lines)
        print(f"fidelity: {found['verdict']}")
    if strict and found["verdict"] == "broken":
        broken = ", ".join(each["name"] for each in found["rows"] if each["ok"] is False)
        raise FidelityBroken(
            f"this machine did not keep what was requested: {broken}",
            hint="it may be busy: measure again on an idle machine",
        )


def _chosen(only: str) -> list[Row]:
    from orchestrator.bench import ROWS
    from orchestrator.errors import UsageError, nearest_hint

    names = [name for name in only.split(",") if name]
    known = [row.name for row in ROWS]
    for name in names:
        if name not in known:
            raise UsageError(
                f"there is no row `{name}`",
                id="bench.row",
                found=name,
                expected=", ".join(known),
                hint=nearest_hint(name, known),
            )
    return [row for row in ROWS if not names or row.name in names]
