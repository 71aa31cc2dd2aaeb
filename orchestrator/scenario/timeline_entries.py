"""Read the entries of a scenario's timeline, as far as that goes without a topology."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator.errors import Place, quoted
from orchestrator.impairment import Impossible, LinkSpec
from orchestrator.source import Problems, Value
from orchestrator.topology.jitter_table import TableFile
from orchestrator.topology.link_keys import LIVE_FIELDS, layer, spec_of
from orchestrator.topology.links import ENDED, Change, change_of
from orchestrator.units import Duration

__all__ = ["Entry", "read_entries"]


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
        change: What is set.
        first: Of a ramp, the first values.
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
    change: Change | None = None
    first: LinkSpec | None = None
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
        entry = replace(entry, change=_change(read, value, problems))
    elif do == "ramp":
        first, last = _ramp_specs(read, value, problems)
        entry = replace(entry, first=first, last=last, steps=read.get("steps", 20))
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


def _change(read: Mapping[str, Any], value: Value, problems: Problems) -> Change | None:
    stated = {key: read[key] for key in LIVE_FIELDS if key in read}
    for key, given in stated.items():
        if given == "none" and key not in ENDED:
            _note_none(key, value.place_of(key), problems)
            return None
    if not stated:
        _note_empty(value, problems)
        return None
    return change_of(stated, problems, value.place, Path(value.place.file).parent)


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
        if any(isinstance(part, TableFile) for end in pair if isinstance(end, dict) for part in end.values()):
            problems.add(
                f"a ramp of {key} reads no file of delays",
                "timeline-ramp",
                value.place_of(key),
                expected="a distribution by name, or the same list of delays at both ends",
                hint="`set` at several times can have a file each",
            )
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
        return spec_of(layer(stated, "forward"))
    except ValueError as error:
        hint = error.hint if isinstance(error, Impossible) else None
        problems.add(f"no link can do that: {error}", "timeline-value", place, hint=hint)
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
