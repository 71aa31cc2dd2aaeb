"""Commands on routes: `route add`, `list`, `set`, `del`, `flows`; on pins: `flow pin`, `unpin`, `pins`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import LabOption, Output, OutputOption, emit, notify, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.lab.routes import ExplicitRoute
    from orchestrator.protocol.messages import Pin

MANY = 100
"""Rows that a table has; JSON has all."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    route = typer.Typer(
        help="Look at explicit routes and change them.", no_args_is_help=True, rich_markup_mode=None
    )
    route.command()(add)
    route.command("list")(list_)
    route.command("set")(set_)
    route.command("del")(delete)
    route.command()(flows)
    app.add_typer(route, name="route")


def register_pins(flow: typer.Typer) -> None:
    """Add the commands on pins to those on flows."""
    flow.command()(pin)
    flow.command()(unpin)
    flow.command()(pins)


RouteArgument = Annotated[int, typer.Argument(metavar="ROUTE", help="Number of a route.")]
EdgesOption = Annotated[
    str | None,
    typer.Option(
        metavar="EDGES", help="A route with branches, such as '1-2,1-3,2-4,3-4', with --from and --to."
    ),
]


def add(
    path: Annotated[
        str | None, typer.Argument(metavar="[PATH]", help="The nodes in order, such as 1,2,3.")
    ] = None,
    weight: Annotated[
        float, typer.Option(metavar="W", help="Its weight among the routes of its pair.")
    ] = 1.0,
    edges: EdgesOption = None,
    src: Annotated[str | None, typer.Option("--from", metavar="NODE", help="Where packets begin.")] = None,
    dst: Annotated[str | None, typer.Option("--to", metavar="NODE", help="Where they end.")] = None,
    lab: LabOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Add a route of a pair; its flows are spread over all of its routes by weight."""
    from orchestrator.lab import Lab

    routes = Lab.attach(lab).routes
    added = routes.add(_path(path), edges=_edges(edges), src=src, dst=dst, weight=weight)
    _show([added], output, one=True)


def list_(
    src: Annotated[str | None, typer.Option("--from", metavar="NODE", help="Only from this node.")] = None,
    dst: Annotated[str | None, typer.Option("--to", metavar="NODE", help="Only to this node.")] = None,
    lab: LabOption = None,
    output: OutputOption = Output.table,
) -> None:
    """List explicit routes with their shares and states; a table has the first ones, JSON has all."""
    from orchestrator.lab import Lab

    found = Lab.attach(lab).routes.list(src, dst)
    if not found and output is Output.table:
        notify("no explicit routes; packets take the shortest paths")
        return
    _show(found, output)


def set_(
    route: RouteArgument,
    path: Annotated[str | None, typer.Option(metavar="1,2,3", help="Its nodes in order.")] = None,
    weight: Annotated[float | None, typer.Option(metavar="W", help="Its weight.")] = None,
    edges: EdgesOption = None,
    lab: LabOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Change the weight of a route, its path, or both, while it is in use."""
    from orchestrator.errors import UsageError
    from orchestrator.lab import Lab

    if path is None and weight is None and edges is None:
        raise UsageError("what shall change?", expected="--path, --edges or --weight")
    changed = Lab.attach(lab).routes.set(route, path=_path(path), edges=_edges(edges), weight=weight)
    _show([changed], output, one=True)


def delete(
    routes: Annotated[list[int], typer.Argument(metavar="ROUTE…", help="Numbers of routes.")],
    lab: LabOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Delete routes with the pins to them; their flows move to the other routes of the pair."""
    from orchestrator.lab import Lab

    gone = Lab.attach(lab).routes.remove(*routes)
    if output is Output.json:
        emit([each.as_json() for each in gone])
    else:
        notify(f"deleted: {', '.join(str(each.id) for each in gone)}")


def flows(
    node: Annotated[
        str | None, typer.Argument(metavar="[NODE]", help="Only flows that begin at this node.")
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=10_000, help="So many at most.")] = 1_000,
    lab: LabOption = None,
    output: OutputOption = Output.table,
) -> None:
    """List flows that take explicit routes, the latest first, with their routes and why they take them."""
    from orchestrator.lab import Lab

    found = Lab.attach(lab).routes.flows(node, limit=limit)
    if output is Output.json:
        emit(asdict(found))
        return
    table(
        ("node", "flow", "route", "by", "idle"),
        [(str(x.node), x.flow, str(x.route), x.by, f"{x.idle_s:.1f} s") for x in found.flows[:MANY]],
    )
    shown = min(len(found.flows), MANY)
    if shown < found.known:
        notify(f"{shown} of {found.known} flows are shown")
    if found.forgotten:
        notify(f"{found.forgotten} flows are no longer recorded, because others took their place")
    for silent in found.silent:
        notify(f"node {silent} did not answer")


def pin(
    route: RouteArgument,
    protocol: Annotated[
        str | None, typer.Option(metavar="P", help="tcp, udp, icmp or a number; every one unless given.")
    ] = None,
    src_port: Annotated[
        int | None, typer.Option(metavar="N", min=0, max=65_535, help="Only flows from this port.")
    ] = None,
    dst_port: Annotated[
        int | None, typer.Option(metavar="N", min=0, max=65_535, help="Only flows to this port.")
    ] = None,
    lab: LabOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Let flows of the pair of a route take this route; while it is down they are spread over the others."""
    from orchestrator.lab import Lab

    made = Lab.attach(lab).routes.pin(route, protocol=protocol, src_port=src_port, dst_port=dst_port)
    _show_pins([made], output, one=True)


def unpin(
    pins: Annotated[list[int], typer.Argument(metavar="PIN…", help="Numbers of pins.")],
    lab: LabOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Delete pins; their flows are spread over the routes of their pair again."""
    from orchestrator.lab import Lab

    gone = Lab.attach(lab).routes.unpin(*pins)
    if output is Output.json:
        emit([asdict(each) for each in gone])
    else:
        notify(f"deleted: {', '.join(str(each.pin_id) for each in gone)}")


def pins(lab: LabOption = None, output: OutputOption = Output.table) -> None:
    """List the pins of flows to explicit routes."""
    from orchestrator.lab import Lab

    _show_pins(Lab.attach(lab).routes.pins(), output)


def _path(text: str | None) -> list[str]:
    return [] if text is None else [stop.strip() for stop in text.split(",")]


def _edges(text: str | None) -> list[tuple[str, str]]:
    """Read `--edges`.

    Raises:
        UsageError: It is no list of pairs.
    """
    from orchestrator.errors import UsageError

    if text is None:
        return []
    pairs = [tuple(end.strip() for end in part.split("-")) for part in text.split(",")]
    if not all(len(pair) == 2 and all(end.isdecimal() for end in pair) for pair in pairs):
        raise UsageError(
            f"`{text}` is no list of edges", found=text, expected="pairs of node ids such as '1-2,2-3'"
        )
    return [(pair[0], pair[1]) for pair in pairs]


def _show(routes: Sequence[ExplicitRoute], output: Output, *, one: bool = False) -> None:
    if output is Output.json:
        emit(routes[0].as_json() if one else [route.as_json() for route in routes])
        return
    rows = [
        (str(x.id), str(x.src), str(x.dst), _way(x), f"{x.weight:g}", f"{x.share:.1%}", x.state, x.origin)
        for x in routes[:MANY]
    ]
    table(("route", "from", "to", "path", "weight", "share", "state", "origin"), rows)
    if len(routes) > MANY:
        notify(f"{MANY} of {len(routes)} routes are shown")


def _way(route: ExplicitRoute) -> str:
    if route.path is not None:
        return " → ".join(map(str, route.path))
    return ", ".join(f"{a} → {b}" for a, b in route.edges)


def _show_pins(pins: Sequence[Pin], output: Output, *, one: bool = False) -> None:
    if output is Output.json:
        emit(asdict(pins[0]) if one else [asdict(each) for each in pins])
        return
    words = [
        (
            str(x.pin_id),
            str(x.src_node_id),
            str(x.dst_node_id),
            str(x.route_id),
            *("any" if each is None else str(each) for each in (x.protocol, x.src_port, x.dst_port)),
        )
        for x in pins[:MANY]
    ]
    table(("pin", "from", "to", "route", "protocol", "source port", "destination port"), words)
