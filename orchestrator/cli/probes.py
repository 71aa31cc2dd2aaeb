"""The command `probe`: measure a link with traffic of its own."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from orchestrator.cli.common import LabOption, Output, OutputOption, emit, table

if TYPE_CHECKING:
    from orchestrator.protocol.messages import ProbeStatus


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(probe)


End = Annotated[str, typer.Argument(help="Number or name of a node.")]


def probe(
    a: End,
    b: End,
    below: Annotated[
        bool, typer.Option("--below", help="Measure what carries the link, and not its impairments.")
    ] = False,
    backward: Annotated[bool, typer.Option("--backward", help="From B to A.")] = False,
    both: Annotated[bool, typer.Option("--both", help="Both directions, one after the other.")] = False,
    size: Annotated[
        str, typer.Option("--bytes", metavar="SIZE", help="The most that is sent, such as '10 MB'.")
    ] = "64 MiB",
    time: Annotated[str, typer.Option(metavar="TIME", help="How long it may take, such as '2 s'.")] = "3 s",
    lab: LabOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Measure capacity, round trip and loss of the link from A to B; exit code 1 if that fails."""
    from orchestrator.errors import UsageError
    from orchestrator.lab import Lab

    if backward and both:
        raise UsageError("which direction?", expected="--backward or --both, not both options")
    link = Lab.attach(lab).link(a, b)
    ways: list[Literal["forward", "backward"]] = ["forward"] if both or not backward else []
    if both or backward:
        ways.append("backward")
    found = [link.probe(way, below=below, bytes=size, time=time) for way in ways]
    _show(found, output)
    if any(each.state == "failed" for each in found):
        raise typer.Exit(1)


def _show(probes: list[ProbeStatus], output: Output) -> None:
    if output is Output.json:
        emit([asdict(each) for each in probes])
        return
    ends, times = ("probe", "from", "to", "state"), ("round trip p50", "p99")
    columns = (*ends, "capacity", *times, "loss", "of packets", "reason")
    table(columns, [_row(each) for each in probes])


def _row(probe: ProbeStatus) -> tuple[str, ...]:
    ends = (str(probe.id), str(probe.src), str(probe.dst), probe.state)
    capacity = "-" if probe.capacity_bps is None else _rate(probe.capacity_bps)
    loss = "-" if probe.loss is None else f"{100 * probe.loss:.2f} %"
    times = (_milliseconds(probe.round_trip_p50_us), _milliseconds(probe.round_trip_p99_us))
    return (*ends, capacity, *times, loss, str(probe.packets_sent), probe.reason or "-")


def _rate(bps: int) -> str:
    return f"{bps / 1e9:.4g} Gbit/s" if bps >= 10**9 else f"{bps / 1e6:.4g} Mbit/s"


def _milliseconds(us: float | None) -> str:
    return "-" if us is None else f"{us / 1000:.3f} ms"
