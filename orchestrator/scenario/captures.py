"""The captures of a scenario: nodes and links that are recorded during a run, a file per entry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator import units
from orchestrator.capture import MOST_SOURCES, SNAPLEN, FilterInvalid, Program, Target, compile_filter
from orchestrator.errors import Place
from orchestrator.fields import Field, Integer, ListOf, Text, Unit
from orchestrator.source import Problems, Value
from orchestrator.topology import SelectorInvalid, Topology
from orchestrator.topology.kinds import NodeRef, Placed, SelectorText
from orchestrator.topology.selector import select

__all__ = ["CAPTURE", "CaptureEntry", "CapturePlan", "read_captures", "resolve_captures"]

CAPTURE = Placed(
    "capture",
    {
        "node": Field(
            SelectorText(), "what the programs of these nodes send and receive, and what the nodes drop"
        ),
        "link": Field(
            ListOf(NodeRef(), "link", least=2, most=2),
            "both directions of a link instead, before and after its emulation, and what it drops",
        ),
        "filter": Field(Text(most=4_000), "which packets, as an expression of tcpdump; all unless given"),
        "limit": Field(
            Unit(
                units.parse_size,
                "a size such as `100 MB`",
                pattern=r"^\s*[0-9][0-9_.]*\s*([KMGT]i?B|B)?\s*$",
                examples=("100 MB",),
                least=units.Size(4_096),
            ),
            "bytes of the file at which the capture ends; the run goes on",
        ),
        "snaplen": Field(Integer(64, SNAPLEN), "bytes of each packet that are kept; all unless given"),
    },
)


@dataclass(frozen=True, slots=True)
class CaptureEntry:
    """An entry of `capture:`, before its nodes are known."""

    nodes: tuple[Value, ...]
    link: bool
    program: Program
    limit: int | None
    snaplen: int
    place: Place


@dataclass(frozen=True, slots=True)
class CapturePlan:
    """A capture of a run.

    Attributes:
        name: The name of its file, without `.pcapng`.
        targets: What is captured.
        program: Which packets.
        limit: Bytes that the file may have; no limit unless given.
        snaplen: Bytes of each packet that are kept.
    """

    name: str
    targets: tuple[Target, ...]
    program: Program
    limit: int | None
    snaplen: int


def read_captures(entries: Iterable[Mapping[str, Any]], problems: Problems) -> tuple[CaptureEntry, ...]:
    """Return the entries; their filters are compiled.

    Raises:
        HostNotFit: There is a filter, and libpcap is not installed.
    """
    found = (_entry(each, problems) for each in entries)
    return tuple(each for each in found if each is not None)


def _entry(read: Mapping[str, Any], problems: Problems) -> CaptureEntry | None:
    value: Value = read["@"]
    stated = [key for key in ("node", "link") if value.get(key) is not None]
    if len(stated) != 1:
        problems.add(
            "an entry of `capture` has `node` or `link`, one of both",
            "capture",
            value.place,
            expected="`{node: 1}` or `{link: [1, 2]}`",
        )
        return None
    if stated[0] not in read:
        return None  # noted already
    nodes: Sequence[Value] = read["link"] if stated == ["link"] else _items(read["node"])
    expression = str(read.get("filter", ""))
    try:
        program = compile_filter(expression)
    except FilterInvalid as error:
        problems.add(
            error.message,
            "capture-filter",
            value.place_of("filter"),
            found=error.found,
            expected=error.expected,
            hint=error.hint,
        )
        return None
    limit = read["limit"].bytes if "limit" in read else None
    return CaptureEntry(
        tuple(nodes), "link" in read, program, limit, read.get("snaplen", SNAPLEN), value.place
    )


def _items(selector: Value) -> Sequence[Value]:
    return [selector] if selector.sequence is None else selector.sequence


def resolve_captures(
    entries: Iterable[CaptureEntry], topology: Topology, problems: Problems
) -> tuple[CapturePlan, ...]:
    """Return the captures of a run in a topology."""
    plans: list[CapturePlan] = []
    sources = 0
    for entry in entries:
        noted = len(problems)
        nodes = [number for value in entry.nodes for number in _selected(value, topology, problems)]
        if entry.link and len(problems) == noted:
            _check_link(nodes, entry, topology, problems)
        if len(problems) > noted:
            continue
        targets = (Target(*nodes),) if entry.link else tuple(Target(node) for node in sorted(set(nodes)))
        sources += sum(len(target.nodes) for target in targets)
        name = _unused(str(targets[0]) if len(targets) == 1 else "nodes", [plan.name for plan in plans])
        plans.append(CapturePlan(name, targets, entry.program, entry.limit, entry.snaplen))
        if sources > MOST_SOURCES:
            problems.add(
                f"the captures have more than {MOST_SOURCES} nodes and ends of links together",
                "capture-size",
                entry.place,
                found=str(sources),
                expected=f"at most {MOST_SOURCES}",
            )
            break
    return tuple(plans)


def _selected(value: Value, topology: Topology, problems: Problems) -> tuple[int, ...]:
    """Return the nodes that a selector means; `all` leaves out external ones."""
    ours = [number for number, node in topology.nodes.items() if not node.external]
    try:
        found = select(value.text, topology.nodes, of_all=ours)
    except SelectorInvalid as error:
        problems.add(
            f"`{error.found}` {error.reason} in {topology.name}",
            "capture-node",
            value.place,
            found=error.found,
            expected=error.expected,
            hint=error.hint,
        )
        return ()
    for number in found:
        if topology.nodes[number].external:
            problems.add(
                f"node {number} is external, and nm captures nothing in it",
                "capture-node",
                value.place,
                found=str(number),
            )
    return found


def _check_link(nodes: Sequence[int], entry: CaptureEntry, topology: Topology, problems: Problems) -> None:
    if len(nodes) != 2 or nodes[1] not in topology.neighbours(nodes[0]):
        ends = " and ".join(map(str, nodes))
        near = ", ".join(map(str, topology.neighbours(nodes[0]))) or "no node"
        problems.add(
            f"there is no link between {ends} in {topology.name}",
            "capture-link",
            entry.place,
            found=ends,
            hint=f"node {nodes[0]} has links to {near}",
        )


def _unused(name: str, taken: Sequence[str]) -> str:
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name}-{number}"
    return found
