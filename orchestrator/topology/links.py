"""Build the links of a topology: defaults, then groups, then the entry itself."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator.errors import LinkChangeInvalid, Place
from orchestrator.fields import NONE, Table
from orchestrator.impairment import PLAIN, Impossible, LinkSpec, check_traces
from orchestrator.source import Problems, Value, parse_option
from orchestrator.topology.jitter_table import TableFile, read_table
from orchestrator.topology.link_keys import LINK_FIELDS, LINK_KEYS, LIVE_FIELDS, Layer, layer, spec_of
from orchestrator.topology.model import Link, Node
from orchestrator.topology.nodes import Group, find_node, note_unknown
from orchestrator.topology.shape import Shape
from orchestrator.topology.traces import Recording, TraceUse, read_trace, trace_fields

__all__ = ["ENDED", "Change", "build_links", "change_of", "read_change", "read_values"]

Read = Mapping[str, Any]
DIRECTIONS = ("forward", "backward")

ENDED = ("trace",)
"""The keys of which a live change may say `none`: others keep what is in force, or have a value of zero."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a running link.

    Attributes:
        forward: What it states for packets from the first end to the second.
        backward: What it states for packets back; only a profile makes that differ.
        whole: Whether it states everything, so that nothing in force is kept.
    """

    forward: LinkSpec
    backward: LinkSpec
    whole: bool


def build_links(
    root: Read,
    shape: Shape,
    nodes: Mapping[int, Node],
    groups: list[Group],
    by_name: Mapping[str, int],
    problems: Problems,
    directory: Path,
) -> tuple[Link, ...]:
    """Return all links in order, each with both of its directions; `directory` is that of the file."""
    shared: Read = root.get("defaults", {}).get("link", {})
    shaping = [group for group in groups if group.link]
    written: dict[tuple[int, int], Place] = {}
    made: dict[tuple[int, int], Link] = {}
    specs = _Specs(problems, directory)
    place = root["@"].place_of("defaults", "link")
    for a, b in shape.edges:
        base = _base(a, b, shared, shaping)
        forward, backward = (specs.spec(base, side, f"link {a}–{b}", place) for side in DIRECTIONS)
        down = _is_down(base)
        made[a, b] = Link(a=a, b=b, forward=forward, backward=backward, forward_down=down, backward_down=down)
    for entry in root.get("links", []):
        ends = _ends(entry, nodes, by_name, problems)
        if ends is None or not _is_new(ends, entry, written, problems):
            continue
        a, b = ends
        link = _link(a, b, entry, _base(a, b, shared, shaping), specs)
        made[link.a, link.b] = link
    links = tuple(made[pair] for pair in sorted(made))
    try:
        check_traces((spec for link in links for spec in (link.forward, link.backward)), in_file=True)
    except ValueError as error:
        problems.add(str(error), "trace-size", root["@"].place, hint="cut them, or give fewer links one")
    return links


def read_change(stated: Mapping[str, str], directory: Path | None = None) -> Change:
    """Return what keys of a link with their values as text change on a running link.

    Args:
        stated: By key, its value as in the topology file; complaints call its place `--KEY`.
        directory: What files are relative to; the current one unless given.

    Raises:
        LinkChangeInvalid: A value is wrong; carries every problem.
    """
    problems = Problems("topology")
    read: dict[str, Any] = {}
    for key, text in stated.items():
        place = Place(f"--{key}")
        # No text at all is no document, but a value that no key has.
        value = parse_option(text, place, problems) if text.strip() else Value("", place, text)
        if value is not None and value.data == NONE and key not in ENDED:
            problems.add(
                f"{key} is `{NONE}`, but {LINK_FIELDS[key].kind.expected} is expected",
                "type",
                place,
                found=text,
                hint="a live change can set a value of zero; `nm link reset` returns to the declared values",
            )
        elif value is not None:
            read[key] = LINK_FIELDS[key].kind.read(value, key, problems)
    read = {key: value for key, value in read.items() if value is not None}
    place = Place(f"--{next(iter(stated), '')}")
    change = change_of(read, problems, place, directory or Path())
    problems.raise_as(LinkChangeInvalid, place.file)
    return change


def read_values(values: Mapping[str, object], origin: str) -> Change:
    """Return what values in the words of the file change, such as `{"delay": "20 ms", "loss": "1 %"}`.

    Args:
        values: Text, numbers, lists and mappings by key of a link; of `none`, see `ENDED`. Files are
            relative to the current directory.
        origin: What complaints call their place.

    Raises:
        LinkChangeInvalid: A key or a value is wrong; carries every problem.
    """
    problems = Problems("topology")
    place = Place(origin)
    for key, value in values.items():
        if value == NONE and key not in ENDED:
            message = f"{key} is `{NONE}`, but a running link keeps what a change does not state"
            problems.add(message, "impairment", place, found=NONE, hint="0 is a value")
    table = Table("link", LIVE_FIELDS)
    stated = table.read(_placed(dict(values), place), "the link", problems)
    change = change_of(stated or {}, problems, place, Path())
    problems.raise_as(LinkChangeInvalid, origin)
    return change


def change_of(read: Read, problems: Problems, place: Place, directory: Path) -> Change:
    """Return what values that `LINK_FIELDS` have read change on a running link.

    Args:
        read: The values by key; other keys are left alone.
        problems: Takes what is wrong.
        place: Where that is.
        directory: What files are relative to.
    """
    whole = "profile" in read
    specs = _Specs(problems, directory, whole=whole)
    forward, backward = (specs.spec([read], side, "the change", place) for side in DIRECTIONS)
    if read.get("trace") == NONE and not whole:
        # What states a link whole has none without a word.
        forward, backward = replace(forward, trace=""), replace(backward, trace="")
    return Change(forward, backward, whole)


def _placed(data: Any, place: Place) -> Value:
    """Return plain data as the tree that kinds read; without YAML, which nodes do not have."""
    if isinstance(data, Mapping):
        return Value({str(_writable(key)): _placed(value, place) for key, value in data.items()}, place)
    if isinstance(data, (list, tuple)):
        return Value([_placed(value, place) for value in data], place)
    data = _writable(data)
    known = data if data is None or isinstance(data, (str, int, float, bool)) else str(data)
    return Value(known, place, "" if known is None else str(known))


def _writable(data: Any) -> Any:
    """Return an integer that no float holds as infinity: one of thousands of digits has no text."""
    if isinstance(data, int) and data.bit_length() > sys.float_info.max_exp:
        return math.inf if data > 0 else -math.inf
    return data


def _ends(
    entry: Read, nodes: Mapping[int, Node], by_name: Mapping[str, int], problems: Problems
) -> tuple[int, int] | None:
    endpoints: list[Value] = entry.get("endpoints", [])
    if len(endpoints) != 2:
        return None  # noted when it was read
    title = f"link {endpoints[0].data}–{endpoints[1].data}"
    found = [find_node(end, nodes, by_name) for end in endpoints]
    for end, number in zip(endpoints, found, strict=True):
        if number is None:
            note_unknown(title, end, nodes, problems)
    a, b = found
    if a is None or b is None:
        return None
    if a == b:
        problems.add(
            f"{title} joins node {a} to itself",
            "self-link",
            endpoints[1].place,
            found=str(endpoints[1].data),
            expected="two different nodes",
        )
        return None
    return a, b


def _is_new(
    ends: tuple[int, int], entry: Read, written: dict[tuple[int, int], Place], problems: Problems
) -> bool:
    a, b = min(ends), max(ends)
    place = entry["@"].place_of("endpoints")
    there = written.setdefault((a, b), place)
    if there is place:
        return True
    problems.add(
        f"link {ends[0]}–{ends[1]} is already there in line {there.line}",
        "duplicate-link",
        place,
        found=f"[{ends[0]}, {ends[1]}]",
        expected="one entry for a pair of nodes",
        hint="if the directions differ, put both into one entry with `forward` and `backward`",
    )
    return False


def _base(a: int, b: int, shared: Read, groups: list[Group]) -> list[Read]:
    return [shared, *(group.link for group in groups if a in group.members or b in group.members)]


def _link(a: int, b: int, entry: Read, base: list[Read], specs: _Specs) -> Link:
    own = {key: entry[key] for key in LINK_KEYS if key in entry}
    title = f"link {a}–{b}"
    layers = {side: [*base, own, entry.get(side, {})] for side in DIRECTIONS}
    forward, backward = (
        specs.spec(layers[side], side, title, entry["@"].place_of(side)) for side in DIRECTIONS
    )
    down, back_down = (_is_down(each) for each in layers.values())
    if a > b:
        a, b, forward, backward, down, back_down = b, a, backward, forward, back_down, down
    return Link(a=a, b=b, forward=forward, backward=backward, forward_down=down, backward_down=back_down)


def _is_down(layers: list[Read]) -> bool:
    """Whether one direction is down from the start; later layers override earlier ones."""
    return any([layer["down"] for layer in layers if "down" in layer][-1:])


class _Specs:
    """Makes specifications of links and notes impossible ones, each combination of values once.

    Args:
        problems: Takes what is wrong.
        directory: What the names of files are relative to.
        whole: Whether a specification states all of a link, so that its values are checked together.
    """

    def __init__(self, problems: Problems, directory: Path, *, whole: bool = True) -> None:
        self._problems = problems
        self._directory = directory
        self._whole = whole
        self._noted: set[str] = set()
        self._tables: dict[str, tuple[float, ...] | None] = {}
        self._traces: dict[tuple[object, ...], Recording | None] = {}

    def spec(self, layers: list[Read], direction: str, title: str, place: Place) -> LinkSpec:
        """Return what one direction does by layers, later ones over earlier ones.

        Returns:
            The specification; a plain one after noting that no link can do it.
        """
        stated: dict[str, Mapping[str, Any]] = {}
        for read in layers:
            new = self._with_trace(layer(read, direction))
            # A trace takes the place of the values that layers below state.
            if new.get("trace"):
                for key in spec_of({"trace": new["trace"]}).set_by_trace:
                    stated.pop(key, None)
            stated |= new
        try:
            spec = spec_of(self._with_table(stated))
            if self._whole:
                spec.check()
        except ValueError as error:
            if str(error) not in self._noted:
                self._noted.add(str(error))
                hint = error.hint if isinstance(error, Impossible) else None
                self._problems.add(f"{title}: {error}", "impairment", place, hint=hint)
            return PLAIN
        return spec

    def _with_trace(self, stated: Layer) -> Layer:
        """Return the same with the content of the file of a trace."""
        use = stated.get("trace", {}).get("trace")
        if not isinstance(use, TraceUse):
            return stated
        key = (use.file, use.column, use.loop, use.shift_us)
        if key not in self._traces:
            self._traces[key] = read_trace(use, self._directory, self._problems)
        recording = self._traces[key]
        return {**stated, "trace": {} if recording is None else trace_fields(use, recording)}

    def _with_table(self, stated: Layer) -> Layer:
        """Return the same with the quantiles of a file in place of its name."""
        jitter = stated.get("jitter", {})
        file = jitter.get("jitter_distribution")
        if not isinstance(file, TableFile):
            return stated
        if file.name not in self._tables:
            self._tables[file.name] = read_table(file, self._directory, self._problems)
        table = self._tables[file.name]
        made = {"jitter_distribution": "table", "jitter_table": table} if table else {}
        kept = {name: value for name, value in jitter.items() if name != "jitter_distribution"}
        return {**stated, "jitter": kept | made}
