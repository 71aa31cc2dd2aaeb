"""The timeline of a scenario: expand its entries to single changes for one topology.

    entries of scenario.yaml → `read_entries` → Entry… → `expand` with a topology → TimelineChange…, by time

Times are microseconds from the moment at which every role of the run has started. All checks are made here,
before anything is started: names of nodes and links, times, and what links can do one change after another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from orchestrator.errors import Place
from orchestrator.impairment import Impossible, LinkSpec, trace_contents
from orchestrator.protocol.messages import TimelineChange
from orchestrator.scenario.timeline_entries import Entry
from orchestrator.source import Problems, Value
from orchestrator.topology import SelectorInvalid, Topology
from orchestrator.topology.selector import select
from orchestrator.units import Duration

__all__ = ["MOST_CHANGES", "expand", "timeline_traces"]

MOST_CHANGES = 2_000
"""Changes of a timeline; it travels in one message with the scenario's files."""

MOST_TRACES = 512 * 1024
"""Bytes of the traces of a timeline, once each, which travel in the same message."""


def timeline_traces(changes: Iterable[TimelineChange]) -> dict[str, bytes]:
    """Return the contents of the traces that changes name, by digest."""
    specs = (spec for change in changes for spec in (change.spec, change.backward))
    return trace_contents(spec for spec in specs if spec is not None)


def expand(
    entries: Iterable[Entry], topology: Topology, timeout_s: float, cause: str, problems: Problems
) -> tuple[TimelineChange, ...]:
    """Return all changes in order of time, those of one moment in the order of the file.

    Args:
        entries: The entries.
        topology: The topology of the lab.
        timeout_s: The time limit of the run; nothing can happen after it.
        cause: What every change is caused by, before the words of its entry.
        problems: Is given what is wrong.
    """
    entries = tuple(entries)
    count = sum(entry.count for entry in entries)
    if count > MOST_CHANGES:
        problems.add(
            f"the timeline has {count} changes, but at most {MOST_CHANGES} can be made",
            "timeline-size",
            max(entries, key=lambda entry: entry.count).place,
            found=str(count),
            expected=f"at most {MOST_CHANGES}",
            hint="fewer steps, or longer times between repetitions",
        )
        return ()
    placed: list[tuple[TimelineChange, Entry]] = []
    for entry in entries:
        found = _target(entry, topology, cause, problems)
        if found is not None:
            placed += [(change, entry) for change in _changes(entry, found)]
    placed.sort(key=lambda each: each[0].at_us)
    _check_times(placed, timeout_s, problems)
    _check_links(placed, topology, problems)
    _check_nodes(placed, problems)
    _check_traces(placed, problems)
    return tuple(change for change, _ in placed)


# Expanding.


def _between(first: LinkSpec, last: LinkSpec, step: int, steps: int) -> LinkSpec:
    """Return the values after some of the steps of a ramp; whole numbers stay whole."""
    end = last.to_wire()

    def value(name: str, start: Any) -> Any:
        if start == end[name] or step == steps:
            return end[name]
        if isinstance(start, int) and isinstance(end[name], int):
            return (start * (steps - step) + end[name] * step + steps // 2) // steps
        return start + (end[name] - start) * step / steps

    return LinkSpec(**{name: value(name, start) for name, start in first.to_wire().items()})


def _target(entry: Entry, topology: Topology, cause: str, problems: Problems) -> TimelineChange | None:
    """Return a change with everything that an entry's changes share; None after noting a problem."""
    noted = len(problems)
    shared = TimelineChange(
        at_us=0,
        do=entry.do,
        direction=entry.direction,
        fault=entry.fault,
        cause=f"{cause}: {entry.cause}" if entry.cause else cause,
    )
    if entry.groups is not None:
        shared = replace(shared, groups=_groups(entry.groups, topology, problems))
    if entry.node is not None:
        node = _node(entry.node, topology, problems)
        if node and topology.nodes[node].external:
            problems.add(
                f"node {node} is external, and nm does not run it",
                "timeline-node",
                entry.node.place,
                found=entry.node.text,
            )
        shared = replace(shared, node=node)
    if entry.ends:
        a, b = (_node(end, topology, problems) for end in entry.ends)
        if a and b and not any({link.a, link.b} == {a, b} for link in topology.links):
            near = ", ".join(map(str, topology.neighbours(a))) or "none"
            problems.add(
                f"there is no link {a}–{b} in {topology.name}",
                "timeline-link",
                entry.ends[0].place,
                found=f"[{a}, {b}]",
                hint=f"neighbours of node {a} are {near}",
            )
        shared = replace(shared, a=a, b=b)
    return shared if len(problems) == noted else None


def _node(value: Value, topology: Topology, problems: Problems) -> int:
    """Return the node that a reference names; 0 after noting a problem."""
    found = _selected(str(value.data), value.place, topology, problems)
    if len(found) > 1:
        problems.add(
            f"`{value.data}` means several nodes",
            "timeline-node",
            value.place,
            found=str(value.data),
            expected="one node",
        )
    return found[0] if len(found) == 1 else 0


def _selected(word: str, place: Place, topology: Topology, problems: Problems) -> tuple[int, ...]:
    try:
        return select(word, topology.nodes)
    except SelectorInvalid as error:
        problems.add(
            f"the timeline names `{error.found}`, which {error.reason} in {topology.name}",
            "timeline-node",
            place,
            found=error.found,
            expected=error.expected,
            hint=error.hint,
        )
        return ()


def _groups(value: Value, topology: Topology, problems: Problems) -> tuple[tuple[int, ...], ...]:
    """Return the groups of a partition, which between them have a link and no node twice."""
    written = (
        [[str(node.data) for node in group.sequence or ()] for group in value.sequence]
        if value.sequence is not None
        else [group.split(",") for group in str(value.data).split("|")]
    )
    noted, of = len(problems), dict[int, int]()
    for number, words in enumerate(written):
        for word in words:
            for node in _selected(word.strip(), value.place, topology, problems):
                if node in of:
                    problems.add(
                        f"the partition names node {node} twice",
                        "timeline-partition",
                        value.place,
                        found=str(node),
                        hint="a node is in one group at most",
                    )
                of[node] = number
    cut = any(of[link.a] != of[link.b] for link in topology.links if link.a in of and link.b in of)
    if len(problems) == noted and not cut:
        problems.add(
            "no link leads from one group of the partition to another, so that nothing would change",
            "timeline-partition",
            value.place,
            found=value.text,
            expected="two groups of nodes or more, with a link between two of them",
        )
    return tuple(tuple(node for node in of if of[node] == number) for number in range(len(written)))


def _changes(entry: Entry, shared: TimelineChange) -> Iterator[TimelineChange]:
    if entry.do == "ramp" and entry.first is not None and entry.last is not None:
        for step in range(entry.steps + 1):
            at_us = entry.at_us + (entry.to_us - entry.at_us) * step // entry.steps
            spec = _between(entry.first, entry.last, step, entry.steps)
            yield replace(shared, at_us=at_us, do="set", spec=spec)
        return
    if entry.change is not None:
        change = entry.change
        shared = replace(shared, spec=change.forward, backward=change.backward, whole=change.whole)
    for at_us in entry.times():
        if entry.do == "flap":
            yield replace(shared, at_us=at_us, do="down")
            yield replace(shared, at_us=at_us + entry.down_us, do="up")
        else:
            yield replace(shared, at_us=at_us)


# Checking.

_Placed = tuple[TimelineChange, Entry]


def _check_times(placed: Iterable[_Placed], timeout_s: float, problems: Problems) -> None:
    late: set[int] = set()
    for change, entry in placed:
        if change.at_us >= timeout_s * 1_000_000 and id(entry) not in late:
            late.add(id(entry))
            problems.add(
                f"`{entry.do}` at {Duration(change.at_us)} would come after the run has been ended, "
                f"by its time limit of {timeout_s:g} s",
                "timeline-time",
                entry.place,
                found=str(Duration(change.at_us)),
                expected=f"a time before {timeout_s:g} s",
                hint="`timeout` in scenario.yaml, or `--timeout`, is the limit of a run",
            )


def _check_traces(placed: Iterable[_Placed], problems: Problems) -> None:
    size = sum(map(len, timeline_traces(change for change, _ in placed).values()))
    if size > MOST_TRACES:
        first = next(entry for change, entry in placed if change.spec and change.spec.trace_data)
        problems.add(
            f"the traces of the timeline have {size:,} bytes when encoded",
            "timeline-size",
            first.place,
            found=f"{size:,}",
            expected=f"at most {MOST_TRACES:,}",
            hint="cut them, or give links their traces in the topology",
        )


def _check_links(placed: Iterable[_Placed], topology: Topology, problems: Problems) -> None:
    """Note changes that ask of a link what none can do, given what it does by then."""
    declared: dict[tuple[int, int], LinkSpec] = {}
    for link in topology.links:
        declared |= {(link.a, link.b): link.forward, (link.b, link.a): link.backward}
    now = dict(declared)
    noted: set[int] = set()
    for change, entry in placed:
        ways = {"forward": [(change.a, change.b)], "backward": [(change.b, change.a)]}
        for way in ways.get(change.direction, [(change.a, change.b), (change.b, change.a)]):
            if change.do == "reset":
                now |= {way: declared[way]} if change.a else declared
            if change.do != "set" or change.spec is None:
                continue
            back = change.backward if way[0] == change.b else None
            spec = change.spec if back is None else back
            wanted = spec if change.whole else spec.over(now[way])
            try:
                wanted.check()
            except ValueError as error:
                if id(entry) not in noted:
                    noted.add(id(entry))
                    problems.add(
                        f"at {Duration(change.at_us)} the link {change.a}–{change.b} cannot do that: {error}",
                        "timeline-value",
                        entry.place,
                        hint=error.hint if isinstance(error, Impossible) else None,
                    )
                continue
            now[way] = wanted


_AFTER = {"kill": "stopped", "stop": "stopped", "start": "running", "pause": "paused", "unpause": "running"}
"""What a node is after each fault."""

_BEFORE = {"start": ("paused", "unpause"), "pause": ("stopped", "start"), "unpause": ("stopped", "start")}
"""The state in which the controller refuses a fault, and what ends that state."""


def _check_nodes(placed: Iterable[_Placed], problems: Problems) -> None:
    """Note faults that do not go with what their node is by then; every node runs at the beginning."""
    now: dict[int, str] = {}
    noted: set[int] = set()
    for change, entry in placed:
        if change.do != "node":
            continue
        refused, back = _BEFORE.get(change.fault, ("", ""))
        if now.get(change.node) != refused:
            now[change.node] = _AFTER[change.fault]
        elif id(entry) not in noted:
            noted.add(id(entry))
            problems.add(
                f"at {Duration(change.at_us)} node {change.node} is {refused}, and `{change.fault}` does not "
                "go with that",
                "timeline-node",
                entry.place,
                found=change.fault,
                hint=f"`do: {back}` comes first",
            )
