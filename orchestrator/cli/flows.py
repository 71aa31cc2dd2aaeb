"""Commands on flows: user-space ones and, as `flow max`, those of max mode; `routes` adds those on pins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.common import LabOption, Output, OutputOption, emit, notify, table
from orchestrator.cli.routes import register_pins

if TYPE_CHECKING:
    from orchestrator.protocol.messages import FlowStatus, MaxFlowStatus

MANY = 100
"""Flows that a table has; JSON has all."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    flow = typer.Typer(
        help="Run user-space flows, which the dataplane carries between two nodes.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    flow.command()(add)
    flow.command("list")(list_)
    flow.command("max")(max_)
    flow.command()(wait)
    flow.command()(stop)
    flow.command("del")(delete)
    register_pins(flow)
    app.add_typer(flow, name="flow")


Ids = Annotated[
    list[str] | None, typer.Argument(metavar="[ID…|all]", help="Numbers as `nm flow list` has them.")
]


def add(
    src: Annotated[str, typer.Argument(metavar="SRC", help="Number or name of the node that sends.")],
    dst: Annotated[str, typer.Argument(metavar="DST", help="The node that receives.")],
    size: Annotated[
        str | None, typer.Option("--bytes", metavar="SIZE", help="Payload to transfer, such as '10 MB'.")
    ] = None,
    duration: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="How long it sends, such as '10 s', in place of --bytes."),
    ] = None,
    rate: Annotated[
        str | None, typer.Option(metavar="RATE", help="The most payload that it sends, such as '5 Mbit'.")
    ] = None,
    weight: Annotated[
        int | None, typer.Option(metavar="N", help="Its weight at links whose scheduler knows weights.")
    ] = None,
    transport: Annotated[
        str, typer.Option(metavar="TYPE", help="tcp, or lossless_unicast for a lossless session.")
    ] = "tcp",
    count: Annotated[int, typer.Option(metavar="N", help="How many such flows.")] = 1,
    route: Annotated[
        str | None, typer.Option(metavar="1,2,3", help="The path of the explicit route that it takes.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Return when they have ended.")] = False,
    lab: LabOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Start flows from one node to another; they go on without this command."""
    from orchestrator.lab import Lab

    flows = Lab.attach(lab).flows
    ids = flows.add(
        src,
        dst,
        bytes=size,
        duration=duration,
        rate=rate,
        weight=weight,
        transport=transport,
        count=count,
        route=None if route is None else [stop.strip() for stop in route.split(",")],
    )
    found = flows.wait(*ids) if wait else flows.list(*ids)
    _show(found, output)
    _exit_if_failed(found)


def list_(
    ids: Ids = None,
    running: Annotated[bool, typer.Option("--open", help="Only those that have not ended.")] = False,
    lab: LabOption = None,
    output: OutputOption = Output.table,
) -> None:
    """List flows with their states, bytes and rates; a table has the latest ones, JSON has all."""
    from orchestrator.lab import Lab

    _show(Lab.attach(lab).flows.list(*(_numbers(ids) or ()), open_only=running), output)


def max_(
    running: Annotated[bool, typer.Option("--open", help="Only those that have not ended.")] = False,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=10_000, help="How many, the latest.")] = MANY,
    lab: LabOption = None,
    output: OutputOption = Output.table,
) -> None:
    """List the TCP flows that nodes in max mode carry, the latest first, with their routes and bytes."""
    from orchestrator.lab import Lab

    found = Lab.attach(lab).flows.list_max(open_only=running, limit=limit)
    if output is Output.json:
        emit([{**asdict(flow), "seconds": flow.seconds} for flow in found])
    elif found:
        columns = (
            "node",
            "entry",
            "client",
            "destination",
            "route",
            "state",
            "out",
            "in",
            "seconds",
            "reason",
        )
        table(columns, [_max_cells(flow) for flow in found])
    else:
        notify("no flows in max mode")


def wait(
    ids: Ids = None,
    timeout: Annotated[float, typer.Option(metavar="S", help="How long at most.")] = 3600.0,
    lab: LabOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Wait until flows have ended, all unless named; exit code 1 if one of them failed."""
    from orchestrator.lab import Lab

    found = Lab.attach(lab).flows.wait(*(_numbers(ids) or ()), timeout=timeout)
    _show(found, output)
    _exit_if_failed(found)


def stop(
    ids: Annotated[list[str], typer.Argument(metavar="ID…|all", help="Numbers, or all.")],
    lab: LabOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Stop flows; what became of them stays in the list."""
    from orchestrator.lab import Lab

    _say("stopped", Lab.attach(lab).flows.stop(*(_numbers(ids) or ())), output)


def delete(
    ids: Annotated[list[str], typer.Argument(metavar="ID…|all", help="Numbers, or all.")],
    lab: LabOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Stop flows and forget what became of them."""
    from orchestrator.lab import Lab

    flows = Lab.attach(lab).flows
    chosen = _numbers(ids) or tuple(flow.id for flow in flows.list())
    _say("deleted", flows.remove(*chosen) if chosen else (), output)


def _numbers(words: Sequence[str] | None) -> tuple[int, ...] | None:
    """Return the numbers of flows; None for all of them.

    Raises:
        UsageError: A word is no number.
    """
    from orchestrator.errors import UsageError

    if words is None or list(words) == ["all"]:
        return None
    numbers = []
    for word in (part for each in words for part in each.split(",") if part):
        if not word.isdecimal() or len(word) > 19:
            raise UsageError(
                f"`{word}` is no number of a flow", id="flow.number", found=word, expected="a number, or all"
            )
        numbers.append(int(word))
    return tuple(numbers)


def _say(what: str, ids: Sequence[int], output: Output) -> None:
    if output is Output.json:
        emit({"ids": list(ids)})
        return
    shown = ", ".join(str(each) for each in ids[:20]) + (
        f" and {len(ids) - 20} more" if len(ids) > 20 else ""
    )
    notify(f"{what}: {shown}" if ids else f"no flow was {what}")


def _exit_if_failed(flows: Sequence[FlowStatus]) -> None:
    if any(flow.state == "failed" for flow in flows):
        raise typer.Exit(1)


def as_json(flows: Sequence[FlowStatus]) -> list[dict[str, Any]]:
    """Return flows as `-o json` prints them."""
    return [{**asdict(flow), "seconds": flow.seconds, "bps": _speed(flow)} for flow in flows]


def print_flows(flows: Sequence[FlowStatus], title: str | None = None) -> None:
    """Print the latest of these flows as a table."""
    columns = ("id", "from", "to", "transport", "wanted", "state", "bytes", "seconds", "rate", "reason")
    note = f"the latest {MANY} of {len(flows)} flows; `nm flow list -o json` has all"
    table(columns, [_cells(flow) for flow in flows[-MANY:]], title, note if len(flows) > MANY else "")


def _show(flows: Sequence[FlowStatus], output: Output) -> None:
    if output is Output.json:
        emit(as_json(flows))
    elif flows:
        print_flows(flows)
    else:
        notify("no flows")


def _cells(flow: FlowStatus) -> tuple[str, ...]:
    from orchestrator.units import Duration, Rate, Size

    length = Duration((flow.duration_ms or 0) * 1000) if flow.size_bytes is None else Size(flow.size_bytes)
    wanted = str(length) + (f" at {Rate(flow.rate_bps)}" if flow.rate_bps else "")
    speed, seconds = _speed(flow), flow.seconds
    return (
        str(flow.id),
        str(flow.src),
        str(flow.dst),
        flow.transport,
        wanted,
        flow.state,
        str(flow.bytes),
        "" if seconds is None else f"{seconds:.3f}",
        "" if speed is None else f"{speed / 1e6:.3g} Mbit",
        flow.reason,
    )


def _max_cells(flow: MaxFlowStatus) -> tuple[str, ...]:
    return (
        str(flow.node),
        flow.entry,
        flow.client,
        flow.destination,
        "-".join(map(str, flow.route)),
        flow.state,
        str(flow.bytes_out),
        str(flow.bytes_in),
        "" if flow.seconds is None else f"{flow.seconds:.3f}",
        flow.reason,
    )


def _speed(flow: FlowStatus) -> float | None:
    """Return the bits of payload per second from its start to its end."""
    return flow.bytes * 8 / flow.seconds if flow.seconds else None
