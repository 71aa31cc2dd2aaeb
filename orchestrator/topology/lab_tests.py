"""The tests of a lab, as a topology or scenario file states them in `tests:`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.source import Problems, Value
from orchestrator.topology.model import LabTest, LabTestKindName, Node
from orchestrator.topology.nodes import find_node, note_unknown, read_selector
from orchestrator.units import Duration

__all__ = ["build_lab_tests"]

Read = Mapping[str, Any]

_PACKETS = {"loss": 1_000, "delay": 50}


def build_lab_tests(
    section: Iterable[Read], nodes: Mapping[int, Node], problems: Problems
) -> tuple[LabTest, ...]:
    """Return the tests that can be run, after noting what is wrong with the others."""
    found = []
    for read in section:
        noted = len(problems)
        test = _build(read, nodes, problems)
        if len(problems) == noted:
            found.append(test)
    return tuple(found)


def _build(read: Read, nodes: Mapping[int, Node], problems: Problems) -> LabTest:
    value: Value = read["@"]
    kind: LabTestKindName = "reach" if read["kind!"] == "from" else read["kind!"]
    noted = len(problems)
    sources, targets, route = _ends(read, kind, nodes, problems)
    bounds = read.get(kind) if kind in ("throughput", "loss", "delay") else None
    test = LabTest(
        name=read.get("name") or _name(read, kind),
        kind=kind,
        sources=sources,
        targets=targets,
        wait_s=_seconds(read, "wait", 0.0),
        timeout_s=_seconds(read, "timeout", 30.0),
        port=read.get("tcp", 0),
        url=read.get("http", ""),
        status=read.get("status", 200),
        command=read.get("command", ()),
        exit_code=read.get("exit_code", 0),
        output=read.get("output"),
        route=route,
        least=bounds.get("min") if bounds else None,
        most=bounds.get("max") if bounds else None,
        packets=read.get("packets", _PACKETS.get(kind, 0)),
        duration_s=_seconds(read, "duration", 2.0),
        written=_written(value),
    )
    if len(problems) == noted and kind not in ("command", "http", "tcp") and not test.pairs:
        problems.add(
            f"the test `{test.name}` has no two different nodes",
            "test-pairs",
            value.place,
            expected="nodes that differ",
        )
    return test


def _seconds(read: Read, key: str, default: float) -> float:
    given: Duration | None = read.get(key)
    return default if given is None else given.seconds


def _ends(
    read: Read, kind: str, nodes: Mapping[int, Node], problems: Problems
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Return the nodes at which a test begins, those at which it ends, and all of a route."""
    if kind == "route":
        by_name = {node.name: number for number, node in nodes.items()}
        by_name |= {f"node-{number}": number for number in nodes}
        route = [_one(item, nodes, by_name, problems) for item in read["route"]]
        return tuple(route[:1]), tuple(route[-1:]), tuple(route)
    if kind == "command":
        return _chosen("node", read["node"], nodes, problems), (), ()
    if "reach" in read:
        targets = _chosen("reach", read["reach"], nodes, problems)
        return (_chosen("from", read["from"], nodes, problems) if "from" in read else targets), targets, ()
    sources = _chosen("from", read["from"], nodes, problems)
    return sources, (_chosen("to", read["to"], nodes, problems) if "to" in read else ()), ()


def _one(item: Value, nodes: Mapping[int, Node], by_name: Mapping[str, int], problems: Problems) -> int:
    number = find_node(item, nodes, by_name)
    if number is None:
        note_unknown("route", item, nodes, problems)
        return 0
    return number


def _chosen(key: str, selector: Value, nodes: Mapping[int, Node], problems: Problems) -> tuple[int, ...]:
    """Return the nodes of a selector; `all` leaves out external ones, in which nothing can be run."""
    ours = [number for number, node in nodes.items() if not node.external]
    return read_selector(key, selector, nodes, problems, of_all=ours)


def _name(read: Read, kind: str) -> str:
    def shown(key: str) -> str:
        value: Value = read[key]
        items = value.sequence if value.sequence is not None else [value]
        return ",".join(item.text or str(item.data) for item in items)

    ends = "".join(f" {key} {shown(key)}" for key in ("from", "to", "node") if key in read)
    what = kind
    if kind == "reach" and "reach" in read:
        what = f"reach {shown('reach')}"
    elif kind == "route":
        what = "route " + " → ".join(str(item.data) for item in read["route"])
    elif kind in ("tcp", "http"):
        what = f"{kind} {read[kind]}"
    elif kind == "command":
        what = " ".join(" ".join(read["command"]).split())[:80]
    return what + ends


def _written(value: Value) -> Mapping[str, Any]:
    plain = value.plain()
    assert isinstance(plain, dict), "only a mapping is read as a test"
    return plain
