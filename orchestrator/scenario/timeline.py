"""The timeline of a scenario: read its entries, and expand them to single changes for one topology.

    entries of scenario.yaml → `read_entries` → Entry… → `expand` with a topology → TimelineChange…, by time

Times are microseconds from the moment at which every role of the run has started. All checks are made here,
before anything is started: names of nodes and links, times, and what links can do one change after another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.errors import Place, quoted
from orchestrator.impairment import LinkSpec
from orchestrator.protocol.messages import TimelineChange
from orchestrator.scenario.timeline_keys import LIVE_FIELDS
from orchestrator.source import Problems, Value
from orchestrator.topology import SelectorInvalid, Topology
from orchestrator.topology.links import spec_of
from orchestrator.topology.selector import select
from orchestrator.units import Duration

__all__ = ["MOST_CHANGES", "Entry", "expand", "read_entries"]

MOST_CHANGES = 2_000
"""Changes of a timeline; it travels in one message with the scenario's files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An entry of the timeline, read and checked as far as that goes without a topology.

    Attributes:
        do: One of `timeline_keys.ACTIONS`.
        value: The entry in the file, for the places of problems.
        at_us: The first time.
        every_us: Time from one repetition to the next; 0 for a single time.
        to_us: The end of repetitions or of a ramp.
        ends: The two nodes of the link, where the entry is about one.
        direction: `forward`, `backward` or `both`.
        spec: What is set; of a ramp, the first values.
        last: Of a ramp, the last values.
        steps: Of a ramp.
        down_us: Of `flap`, how long the link is down.
        groups: Of `partition`.
        node: Of `node`.
        fault: Of `node`, what is done to it.
        cause: The user's words.
    """

    do: str
    value: Value
    at_us: int
    every_us: int = 0
    to_us: int = 0
    ends: tuple[Value, ...] = ()
    direction: str = "both"
    spec: LinkSpec | None = None
    last: LinkSpec | None = None
    steps: int = 0
    down_us: int = 0
    groups: Value | None = None
    node: Value | None = None
    fault: str = ""
    cause: str = ""

    @property
    def place(self) -> Place:
        """Where it stands."""
        return self.value.place

    @property
    def count(self) -> int:
        """The number of its changes."""
        if self.do == "ramp":
            return self.steps + 1
        times = 1 if not self.every_us else -(-(self.to_us - self.at_us) // self.every_us)
        return times * (2 if self.do == "flap" else 1)

    def times(self) -> range:
        """When it begins, once or several times."""
        if not self.every_us:
            return range(self.at_us, self.at_us + 1)
        return range(self.at_us, self.to_us, self.every_us)


def read_entries(section: Iterable[Mapping[str, Any]], problems: Problems) -> tuple[Entry, ...]:
    """Return the entries that can be used, after noting what is wrong with the others."""
    found = []
    for read in section:
        noted = len(problems)
        entry = _entry(read, problems)
        if len(problems) == noted:
            found.append(entry)
    return tuple(found)


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
    return tuple(change for change, _ in placed)


# Reading.


def _entry(read: Mapping[str, Any], problems: Problems) -> Entry:
    do: str = read["do!"]
    value: Value = read["@"]
    both = bool(read.get("forward")) == bool(read.get("backward"))
    ends = read[do] if do in ("set", "ramp", "flap", "down", "up", "reset") else ()
    entry = Entry(
        do=do,
        value=value,
        at_us=0,
        ends=() if ends == "all" else tuple(ends),
        direction="both" if both else "forward" if read.get("forward") else "backward",
        groups=read.get("partition"),
        node=read.get("node"),
        fault=read.get("do", ""),
        cause=read.get("by", ""),
    )
    entry = _with_times(entry, read, problems)
    if do == "set":
        entry = replace(entry, spec=_spec(read, value, problems))
    elif do == "ramp":
        first, last = _ramp_specs(read, value, problems)
        entry = replace(entry, spec=first, last=last, steps=read.get("steps", 20))
    elif do == "flap":
        entry = replace(entry, down_us=read["down_for"].us)
        if entry.every_us and entry.down_us >= entry.every_us:
            problems.add(
                f"down_for is {read['down_for']}, but the link goes down again every {read['every']}",
                "timeline-flap",
                value.place_of("down_for"),
                found=str(read["down_for"]),
                expected=f"less than {read['every']}",
                hint="`down: [A, B]` takes a link down for good",
            )
    elif ends == "all" and entry.direction != "both":
        problems.add(
            "`reset: all` is about both directions of every link",
            "timeline-action",
            value.key_place(entry.direction),
            hint="name the link",
        )
    return entry


def _with_times(entry: Entry, read: Mapping[str, Any], problems: Problems) -> Entry:
    value = entry.value
    start, end, every = read.get("from"), read.get("to"), read.get("every")
    if entry.do != "ramp":
        if ("at" in read) == ("every" in read):
            problems.add(
                "the entry says `at` and `every`" if "at" in read else "the entry does not say when",
                "timeline-time",
                value.key_place("every") if "at" in read else value.place,
                expected="`at: 5 s`, or `every: 3 s` with `to`",
            )
            return entry
        if "at" in read:
            for key in ("from", "to"):
                if key in read:
                    problems.add(
                        f"`{key}` belongs to `every` and to ramps, but the entry says `at`",
                        "timeline-time",
                        value.key_place(key),
                        hint="write `at` alone, or `every`, `from` and `to`",
                    )
            return replace(entry, at_us=read["at"].us)
        if end is None:
            problems.add(
                "`every` needs `to`: it would go on for ever",
                "timeline-time",
                value.key_place("every"),
                expected="to: the end of the repetition",
            )
            return entry
    start = start or Duration(0)
    if end is not None and start.us >= end.us:
        problems.add(
            f"from is {start}, but to is {end}",
            "timeline-time",
            value.place_of("to"),
            found=str(end),
            expected=f"more than {start}",
        )
    return replace(entry, at_us=start.us, to_us=end.us if end else 0, every_us=every.us if every else 0)


def _spec(read: Mapping[str, Any], value: Value, problems: Problems) -> LinkSpec | None:
    stated = {key: read[key] for key in LIVE_FIELDS if key in read}
    for key, given in stated.items():
        if given == "none":
            _note_none(key, value.place_of(key), problems)
            return None
    if not stated:
        _note_empty(value, problems)
        return None
    return _made(stated, value.place, problems)


def _ramp_specs(
    read: Mapping[str, Any], value: Value, problems: Problems
) -> tuple[LinkSpec | None, LinkSpec | None]:
    pairs = {key: read[key] for key in LIVE_FIELDS if key in read}
    if not pairs:
        _note_empty(value, problems)
        return None, None
    for key, pair in pairs.items():
        if "none" in pair:
            _note_none(key, value.place_of(key), problems)
            return None, None
        first, last = (_made({key: end}, value.place_of(key), problems) for end in pair)
        if first is None or last is None:
            return None, None
        if not _is_ramp(first, last):
            problems.add(
                f"no ramp leads from the first value of {key} to the last",
                "timeline-ramp",
                value.place_of(key),
                expected="two values that differ in numbers only",
                hint="write both in the same form and unit",
            )
            return None, None
    ends = ({key: pair[index] for key, pair in pairs.items()} for index in (0, 1))
    first, last = (_made(end, value.place, problems) for end in ends)
    return first, last


def _made(stated: Mapping[str, Any], place: Place, problems: Problems) -> LinkSpec | None:
    try:
        return spec_of(stated)
    except ValueError as error:
        problems.add(f"no link can do that: {error}", "timeline-value", place)
        return None


def _note_none(key: str, place: Place, problems: Problems) -> None:
    problems.add(
        f"{key} is `none`, but a running link keeps what a change does not state",
        "timeline-value",
        place,
        found="none",
        expected="a value",
        hint="0 is a value; `reset` returns to what is declared",
    )


def _note_empty(value: Value, problems: Problems) -> None:
    problems.add(
        "the entry does not say what is set",
        "timeline-value",
        value.place,
        expected=f"one of {quoted(LIVE_FIELDS)}",
        hint="such as `delay: 20 ms`; in a ramp, `delay: [10 ms, 50 ms]`",
    )


def _numeric(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_ramp(first: LinkSpec, last: LinkSpec) -> bool:
    one, other = first.to_wire(), last.to_wire()
    return one.keys() == other.keys() and all(
        value == other[name] or (_numeric(value) and _numeric(other[name])) for name, value in one.items()
    )


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


# Expanding.


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
    if entry.do == "ramp" and entry.spec is not None and entry.last is not None:
        for step in range(entry.steps + 1):
            at_us = entry.at_us + (entry.to_us - entry.at_us) * step // entry.steps
            spec = _between(entry.spec, entry.last, step, entry.steps)
            yield replace(shared, at_us=at_us, do="set", spec=spec)
        return
    for at_us in entry.times():
        if entry.do == "flap":
            yield replace(shared, at_us=at_us, do="down")
            yield replace(shared, at_us=at_us + entry.down_us, do="up")
        else:
            yield replace(shared, at_us=at_us, spec=entry.spec)


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
            wanted = change.spec.over(now[way])
            try:
                wanted.check()
            except ValueError as error:
                if id(entry) not in noted:
                    noted.add(id(entry))
                    problems.add(
                        f"at {Duration(change.at_us)} the link {change.a}–{change.b} cannot do that: {error}",
                        "timeline-value",
                        entry.place,
                    )
                continue
            now[way] = wanted
