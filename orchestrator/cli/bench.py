"""Commands that measure: `bench fidelity`, and the benchmarks of a checkout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.common import BackendName, Output, OutputOption, emit, progress, table

if TYPE_CHECKING:
    from orchestrator.bench import Row


def register(app: typer.Typer) -> None:
    """Add the commands."""
    bench = typer.Typer(help="Measure this machine.", no_args_is_help=True, rich_markup_mode=None)
    bench.command()(fidelity)
    for each in (dataplane, scale, daily):
        bench.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})(each)
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
                _measured(each),
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


def _measured(row: Mapping[str, Any]) -> str:
    """The figures of a row as text, or why there are none."""
    figures = [f"{name} {value:g}" for name, value in row["measured"].items()]
    if row["inside_95"] is not None:
        figures.append(f"inside 95 %: {'yes' if row['inside_95'] else 'no'}")
    return ", ".join(figures) or str(row["reason"])


def dataplane(context: typer.Context) -> None:
    """Measure the packet path beside the kernel's (needs a checkout and root).

    Further options go to the benchmark; `nm bench dataplane -- --help` lists them.
    """
    _of_checkout("dataplane", context)


def scale(context: typer.Context) -> None:
    """Measure labs of hundreds and thousands of nodes (needs a checkout and root)."""
    _of_checkout("scale", context)


def daily(context: typer.Context) -> None:
    """Measure everyday use: small labs, transfers, links (needs a checkout and root)."""
    _of_checkout("daily", context)


def _of_checkout(which: str, context: typer.Context) -> None:
    """Run a benchmark of the repository with the options that are left."""
    import importlib.util
    import subprocess
    import sys

    from orchestrator.errors import HostNotFit

    if importlib.util.find_spec("benchmarks") is None:
        raise HostNotFit(
            "the benchmarks are not installed with the program",
            id="bench.missing",
            hint="run it in a checkout of the repository, or `make bench` there",
        )
    command = [sys.executable, "-m", f"benchmarks.{which}", *context.args]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


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
