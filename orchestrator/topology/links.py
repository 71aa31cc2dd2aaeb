"""Build the links of a topology: defaults, then groups, then the entry itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator.errors import Place, TopologyInvalid
from orchestrator.fields import NONE
from orchestrator.impairment import PLAIN, Impossible, LinkSpec, check_traces
from orchestrator.source import Problems, Value, parse_yaml
from orchestrator.topology.generators import Shape
from orchestrator.topology.jitter_table import TableFile, read_table
from orchestrator.topology.link_keys import LINK_FIELDS, LINK_KEYS, Layer, layer, spec_of
from orchestrator.topology.model import Link, Node
from orchestrator.topology.nodes import Group, find_node, note_unknown
from orchestrator.topology.traces import Recording, TraceUse, read_trace, trace_fields

__all__ = ["Change", "build_links", "read_change"]

Read = Mapping[str, Any]
DIRECTIONS = ("forward", "backward")


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
        made[a, b] = Link(a=a, b=b, forward=forward, backward=backward)
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
        TopologyInvalid: A value is wrong; carries every problem.
    """
    problems = Problems("topology")
    read: dict[str, Any] = {}
    ended = False
    for key, text in stated.items():
        place = Place(f"--{key}")
        # No text at all is no document, but a value that no key has.
        value = parse_yaml(text, place.file, problems) if text.strip() else Value("", place, text)
        if value is not None and value.data == NONE and key == "trace":
            ended = True
        elif value is not None and value.data == NONE:
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
    specs = _Specs(problems, directory or Path(), whole="profile" in read)
    forward, backward = (specs.spec([read], side, "the change", place) for side in DIRECTIONS)
    problems.raise_as(TopologyInvalid, place.file)
    if ended and "profile" not in read:
        # A profile has none in any case.
        forward, backward = replace(forward, trace=""), replace(backward, trace="")
    return Change(forward, backward, whole="profile" in read)


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
    forward, backward = (
        specs.spec([*base, own, entry.get(side, {})], side, title, entry["@"].place_of(side))
        for side in DIRECTIONS
    )
    if a > b:
        a, b, forward, backward = b, a, backward, forward
    return Link(a=a, b=b, forward=forward, backward=backward)


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
