"""The keys of an entry of `flows:`, and what they mean in a topology."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from orchestrator import units
from orchestrator.errors import Place, quoted
from orchestrator.fields import Choice, Field, Integer, ListOf, Unit
from orchestrator.source import Problems, Value
from orchestrator.topology.kinds import NodeRef, Placed, SelectorText
from orchestrator.topology.link_keys import DURATION_FORM, RATE_FORM, SIZE_FORM
from orchestrator.topology.model import Flow, Node, Route
from orchestrator.topology.nodes import find_node, note_unknown, read_selector

__all__ = ["FLOW", "FLOW_FIELDS", "MOST_FLOWS", "build_flows", "check_flow_form", "read_flow_form"]

MOST_FLOWS = 10_000
"""Flows of a file, all pairs and counts together: some 100 KB of buffers each, that is 1 GB in all."""

FLOW_FIELDS: Mapping[str, Field] = {
    "bytes": Field(
        Unit(
            units.parse_size,
            "a size such as `10 MB`",
            pattern=SIZE_FORM,
            examples=("10 MB",),
            least=units.Size(1),
            most=units.Size(2**50),
        ),
        "payload to transfer",
    ),
    "duration": Field(
        Unit(
            units.parse_duration,
            "a duration such as `10 s`",
            pattern=DURATION_FORM,
            examples=("10 s",),
            least=units.Duration(1_000),
            most=units.Duration(86_400_000_000),
        ),
        "how long the source sends, in place of `bytes`",
    ),
    "rate": Field(
        Unit(
            units.parse_rate,
            "a rate such as `5 Mbit`",
            pattern=RATE_FORM,
            examples=("5 Mbit",),
            least=units.Rate(1_000),
        ),
        "the source sends at most at this rate of payload",
    ),
    "weight": Field(Integer(1, 65_535), "its weight at links whose scheduler knows weights"),
    "transport": Field(
        Choice("tcp", later={"lossless_unicast": "a flow as a session of the lossless protocol"}),
        "what carries it: `tcp` of the dataplane",
        default="tcp",
    ),
}
"""What a flow is, in the words of files; the command line and the SDK have the same ones."""

FLOW = Placed(
    "flow",
    {
        "from": Field(SelectorText(), "the nodes that send", required=True),
        "to": Field(SelectorText(), "the nodes that receive", required=True),
        **FLOW_FIELDS,
        "count": Field(Integer(1, MOST_FLOWS), "so many such flows for each pair of nodes", default=1),
        "route": Field(ListOf(NodeRef(), "node", least=2), "the one of `routes` that it takes, as its path"),
    },
    hints={
        "size": "did you mean `bytes`?",
        "src": "write `from`",
        "dst": "write `to`",
        "src_node_id": "write `from`",
        "dst_node_id": "write `to`",
        "flow_spec": "its keys are written beside `from` and `to`: `bytes` or `duration`, `rate`, `weight`",
    },
)


def read_flow_form(read: Mapping[str, Any]) -> dict[str, Any]:
    """Return the size or duration, rate, weight and transport of what was read, as fields of a `Flow`."""
    size, duration, rate = (read.get(key) for key in ("bytes", "duration", "rate"))
    return {
        "size_bytes": None if size is None else size.bytes,
        "duration_ms": None if duration is None else max(1, round(duration.seconds * 1000)),
        "rate_bps": None if rate is None else rate.bps,
        "weight": read.get("weight"),
        "transport": read.get("transport", "tcp"),
    }


def check_flow_form(read: Mapping[str, Any], value: Value, problems: Problems, title: str) -> None:
    """Note a flow without one length, and one of `lossless_unicast` by duration that has no rate."""
    stated = [key for key in ("bytes", "duration") if value.get(key) is not None]
    if len(stated) != 1:
        found = "both `bytes` and `duration`" if stated else "neither `bytes` nor `duration`"
        problems.add(
            f"{title} has {found}",
            "flow-length",
            value.place,
            found=quoted(stated) or None,
            expected="one of `bytes`, `duration`",
            hint="for example `bytes: 10 MB`",
        )
    lossless = read.get("transport") == "lossless_unicast"
    if lossless and "duration" in stated and value.get("rate") is None:
        problems.add(
            f"{title} is sent for a duration as `lossless_unicast`, and has no `rate`",
            "flow-rate",
            value.place_of("duration"),
            expected="a `rate`: the duration and the rate give the size of the session",
            hint="for example `rate: 10 Mbit`",
        )


def build_flows(
    section: Iterable[Mapping[str, Any]],
    nodes: Mapping[int, Node],
    routes: Sequence[Route],
    by_name: Mapping[str, int],
    problems: Problems,
) -> tuple[Flow, ...]:
    """Return the flows, one for each pair of nodes, after noting what is wrong."""
    found: list[Flow] = []
    total = 0
    for read in section:
        noted = len(problems)
        value: Value = read["@"]
        if "from" not in read or "to" not in read:
            continue  # noted already
        pairs = _pairs(read, value, nodes, problems)
        title = f"the flow {_shown(read, 'from')} → {_shown(read, 'to')}"
        check_flow_form(read, value, problems, title)
        path = _route(read, title, pairs, nodes, routes, by_name, problems) if pairs else None
        if len(problems) > noted:
            continue
        form = read_flow_form(read)
        count = read.get("count", 1)
        total += count * len(pairs)
        if total > MOST_FLOWS:
            _too_many(total, value.place, problems)
            break
        found += [Flow(src=src, dst=dst, count=count, route=path, **form) for src, dst in pairs]
    return tuple(found)


def _pairs(
    read: Mapping[str, Any], value: Value, nodes: Mapping[int, Node], problems: Problems
) -> list[tuple[int, int]]:
    """Return each source with each destination that is another node."""
    noted = len(problems)
    ours = [number for number, node in nodes.items() if not node.external]
    sources, targets = (read_selector(key, read[key], nodes, problems, of_all=ours) for key in ("from", "to"))
    pairs = [(src, dst) for src in sources for dst in targets if src != dst]
    if not pairs and len(problems) == noted:
        problems.add(
            f"the flow {_shown(read, 'from')} → {_shown(read, 'to')} ends where it starts",
            "flow-to-itself",
            value.place_of("to"),
            found=_shown(read, "to"),
            expected="another node than the source",
        )
    return pairs


def _route(
    read: Mapping[str, Any],
    title: str,
    pairs: Sequence[tuple[int, int]],
    nodes: Mapping[int, Node],
    routes: Sequence[Route],
    by_name: Mapping[str, int],
    problems: Problems,
) -> tuple[int, ...] | None:
    """Return the path of the route that a flow is pinned to, if it is one of `routes`."""
    stops: list[Value] = read.get("route", [])
    path: list[int] = []
    for stop in stops:
        number = find_node(stop, nodes, by_name)
        if number is None:
            note_unknown(title, stop, nodes, problems)
            return None
        path.append(number)
    if not path:
        return None
    known = {(route.src, route.dst, frozenset(route.edges)) for route in routes}
    for src, dst in pairs:
        if (src, dst) != (path[0], path[-1]) or (src, dst, frozenset(pairwise(path))) not in known:
            problems.add(
                f"{title} takes the route {' → '.join(map(str, path))}, which is none of {src} → {dst}",
                "flow-route",
                stops[0].place,
                found=", ".join(map(str, path)),
                expected=f"a route of `routes` from node {src} to node {dst}",
                hint=f"add `{{from: {src}, to: {dst}, path: {path}}}` to `routes`"
                if (src, dst) == (path[0], path[-1])
                else None,
            )
            return None
    return tuple(path)


def _too_many(total: int, place: Place, problems: Problems) -> None:
    problems.add(
        f"the file has {total} flows up to this one, all pairs and counts together",
        "flow-count",
        place,
        found=str(total),
        expected=f"at most {MOST_FLOWS} flows",
    )


def _shown(read: Mapping[str, Any], key: str) -> str:
    value: Value = read[key]
    items = value.sequence if value.sequence is not None else [value]
    return ",".join(item.text or str(item.data) for item in items)
