"""Change explicit routes and pins for operators: check, put in force, write and log.

Changes by SQL are in Postgres already, see `sql_changes`; what is refused there is refused here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from orchestrator.controller.core import Core
from orchestrator.controller.errors import PinInvalid, PinUnknown, RouteInvalid, RouteUnknown
from orchestrator.controller.routing import Edges, check_route
from orchestrator.fields import ROUTE_WEIGHTS
from orchestrator.store import PinRow, RouteRow

__all__ = [
    "add_pin",
    "add_route",
    "change_route",
    "delete_pin",
    "delete_route",
    "details",
    "forget_pins",
    "known_route",
    "new_pin",
    "new_route",
    "pin_details",
]

TCP, UDP = 6, 17


async def new_route(
    core: Core, src: int, dst: int, path: Sequence[int], edges: Edges, weight: float
) -> RouteRow:
    """Return a route of a pair with a number of its own, which `add_route` puts in force.

    Raises:
        NodeUnknown: There is no such node.
        RouteInvalid: It is no route of this pair over links of the lab, or its weight is wrong.
        StoreUnavailable: Postgres, which has the numbers, does not answer.
    """
    for node in (src, dst):
        core.lab.registry.node(node)
    row = RouteRow(0, src, dst, _edges(path, edges), "operator", weight)
    _check(core, row)
    (number,) = await core.store.new_routes(1)
    return replace(row, route_id=number)


def add_route(core: Core, row: RouteRow, cause: str) -> None:
    """Add a route of a pair.

    Raises:
        RouteInvalid: A link or a node of it was removed meanwhile.
    """
    _check(core, row)
    _put(core, row, "route.added", cause)


def change_route(
    core: Core, route_id: int, path: Sequence[int], edges: Edges, weight: float | None, cause: str
) -> RouteRow:
    """Change the edges of a route, its weight, or both; return it.

    Raises:
        RouteUnknown: There is no such route.
        RouteInvalid: As for `add_route`; nothing is changed then.
    """
    row = known_route(core, route_id)
    if path or edges:
        row = replace(row, edges=_edges(path, edges))
    row = replace(row, origin="operator", weight=row.weight if weight is None else weight)
    _check(core, row)
    _put(core, row, "route.changed", cause)
    return row


def delete_route(core: Core, route_id: int, cause: str) -> RouteRow:
    """Delete a route with its pins; return what it was.

    Raises:
        RouteUnknown: There is no such route.
    """
    row = known_route(core, route_id)
    pins = core.lab.explicit.pins_of_route(route_id)
    core.lab.change_pins(dict.fromkeys(pins))
    core.lab.change_routes({route_id: None})
    core.store.lab.drop_pins(pins)
    core.store.lab.drop_routes([route_id])
    core.events.add("route.deleted", row.src, {**_facts(row), "pins": pins, "cause": cause})
    return row


async def new_pin(
    core: Core, route_id: int, protocol: int | None, src_port: int | None, dst_port: int | None
) -> PinRow:
    """Return a pin of flows of the pair of a route to it, which `add_pin` puts in force.

    Raises:
        RouteUnknown: There is no such route.
        PinInvalid: Ports are given for a protocol that has none.
        StoreUnavailable: Postgres, which has the numbers, does not answer.
    """
    route = known_route(core, route_id)
    if protocol not in (None, TCP, UDP) and (src_port, dst_port) != (None, None):
        raise PinInvalid(
            f"protocol {protocol} has no ports", found=str(protocol), expected=f"{TCP} (TCP) or {UDP} (UDP)"
        )
    number = await core.store.new_pin()
    return PinRow(number, route.src, route.dst, route_id, protocol, src_port, dst_port)


def add_pin(core: Core, pin: PinRow, cause: str) -> None:
    """Put a pin in force.

    Raises:
        RouteUnknown: Its route was deleted meanwhile.
    """
    known_route(core, pin.route_id)
    core.lab.change_pins({pin.pin_id: pin})
    core.store.lab.save_pins([pin])
    core.events.add("flow.pinned", pin.src, {**pin_details(pin), "cause": cause})


def delete_pin(core: Core, pin_id: int, cause: str) -> PinRow:
    """Delete a pin; return what it was.

    Raises:
        PinUnknown: There is no such pin.
    """
    pin = core.lab.explicit.pins.get(pin_id)
    if pin is None:
        raise PinUnknown(f"there is no pin {pin_id}", hint="`nm flow pins` lists them")
    core.lab.change_pins({pin_id: None})
    core.store.lab.drop_pins([pin_id])
    core.events.add("flow.unpinned", pin.src, {**pin_details(pin), "cause": cause})
    return pin


def forget_pins(core: Core, cause: str) -> None:
    """Delete the pins whose route is gone, or is one of another pair."""
    orphaned = core.lab.explicit.orphaned_pins()
    for pin in (core.lab.explicit.pins[pin_id] for pin_id in orphaned):
        core.events.add("flow.unpinned", pin.src, {**pin_details(pin), "cause": cause})
    core.lab.change_pins(dict.fromkeys(orphaned))
    core.store.lab.drop_pins(orphaned)


def known_route(core: Core, route_id: int) -> RouteRow:
    """Return a route.

    Raises:
        RouteUnknown: There is none of that number.
    """
    row = core.lab.explicit.rows.get(route_id)
    if row is None:
        raise RouteUnknown(f"there is no explicit route {route_id}", hint="`nm route list` lists them")
    return row


def details(core: Core, row: RouteRow) -> dict[str, Any]:
    """Return a route as operators are told of it."""
    explicit = core.lab.explicit
    state = explicit.state_of(row.route_id) if row.route_id in explicit.rows else "deleted"
    of_pair = explicit.of_pair(row.src, row.dst)
    total = sum(each.weight for each in of_pair if each.route_id not in explicit.dead)
    return {
        "route_id": row.route_id,
        "src_node_id": row.src,
        "dst_node_id": row.dst,
        "edges": [list(edge) for edge in row.edges],
        "weight": row.weight,
        "share": row.weight / total if state == "up" else 0.0,
        "state": state,
        "origin": row.origin,
        "pins": explicit.pins_of_route(row.route_id),
    }


def pin_details(pin: PinRow) -> dict[str, Any]:
    """Return a pin as operators are told of it."""
    return {
        "pin_id": pin.pin_id,
        "src_node_id": pin.src,
        "dst_node_id": pin.dst,
        "route_id": pin.route_id,
        "protocol": pin.protocol,
        "src_port": pin.src_port,
        "dst_port": pin.dst_port,
    }


def _edges(path: Sequence[int], edges: Edges) -> Edges:
    if bool(path) == bool(edges):
        found = "both `path` and `edges`" if path else "neither `path` nor `edges`"
        raise RouteInvalid(f"the route has {found}", expected="one of `path`, `edges`")
    return tuple(pairwise(path)) if path else tuple((start, end) for start, end in edges)


def _check(core: Core, row: RouteRow) -> None:
    name = f"the route from {row.src} to {row.dst}"
    if row.src == row.dst:
        raise RouteInvalid(f"{name} ends where it starts", found=str(row.dst), hint="a route joins two nodes")
    least, most = ROUTE_WEIGHTS
    if not (math.isfinite(row.weight) and least <= row.weight <= most):
        raise RouteInvalid(
            f"the weight of {name} is {row.weight:g}",
            id="route.weight",
            found=f"{row.weight:g}",
            expected=f"a number from {least:g} to {most:g}",
        )
    check_route(row.src, row.dst, row.edges, core.lab.registry.links)


def _put(core: Core, row: RouteRow, event: str, cause: str) -> None:
    core.lab.change_routes({row.route_id: row})
    core.store.lab.save_routes([row])
    core.events.add(event, row.src, {**_facts(row), "cause": cause})


def _facts(row: RouteRow) -> dict[str, Any]:
    ends = {"route": row.route_id, "from": row.src, "to": row.dst}
    return {**ends, "edges": [list(edge) for edge in row.edges[:64]], "weight": row.weight}
