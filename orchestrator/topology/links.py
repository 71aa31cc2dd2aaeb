"""Build the links of a topology: defaults, then groups, then the entry itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.errors import Place, TopologyInvalid
from orchestrator.impairment import PLAIN, LinkSpec
from orchestrator.source import Problems, Value, parse_yaml
from orchestrator.topology.generators import Shape
from orchestrator.topology.language import LINK_FIELDS, LINK_KEYS
from orchestrator.topology.model import Link, Node
from orchestrator.topology.nodes import Group, find_node, note_unknown

__all__ = ["build_links", "read_value"]

Read = Mapping[str, Any]
_NONE = "none"


def build_links(
    root: Read,
    shape: Shape,
    nodes: Mapping[int, Node],
    groups: list[Group],
    by_name: Mapping[str, int],
    problems: Problems,
) -> tuple[Link, ...]:
    """Return all links in order, each with both of its directions."""
    shared: Read = root.get("defaults", {}).get("link", {})
    shaping = [group for group in groups if group.link]
    written: dict[tuple[int, int], Place] = {}
    made: dict[tuple[int, int], Link] = {}
    specs = _Specs(problems)
    for a, b in shape.edges:
        base = _base(a, b, shared, shaping)
        spec = specs.spec(base, f"link {a}–{b}", root["@"].place_of("defaults", "link"))
        down = base.get("down", False)
        made[a, b] = Link(a=a, b=b, forward=spec, backward=spec, forward_down=down, backward_down=down)
    for entry in root.get("links", []):
        ends = _ends(entry, nodes, by_name, problems)
        if ends is None or not _is_new(ends, entry, written, problems):
            continue
        a, b = ends
        link = _link(a, b, entry, _base(a, b, shared, shaping), specs)
        made[link.a, link.b] = link
    return tuple(made[pair] for pair in sorted(made))


def read_value(key: str, text: str, origin: str) -> LinkSpec:
    """Return what the value of one key of a link says; `origin` is what complaints call its place.

    Raises:
        TopologyInvalid: The value is wrong; carries every problem.
    """
    problems = Problems("topology")
    value = parse_yaml(text, origin, problems)
    read = None if value is None else LINK_FIELDS[key].kind.read(value, key, problems)
    spec = PLAIN
    try:
        spec = _spec({} if read is None else {key: read})
    except ValueError as error:
        problems.add(str(error), "impairment", Place(origin), found=text)
    problems.raise_as(TopologyInvalid, origin)
    return spec


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


def _base(a: int, b: int, shared: Read, groups: list[Group]) -> dict[str, Any]:
    base = dict(shared)
    for group in groups:
        if a in group.members or b in group.members:
            base.update(group.link)
    return base


def _link(a: int, b: int, entry: Read, base: Read, specs: _Specs) -> Link:
    own = {key: entry[key] for key in LINK_KEYS if key in entry}
    title = f"link {a}–{b}"
    sides = {side: {**base, **own, **entry.get(side, {})} for side in ("forward", "backward")}
    forward, backward = (specs.spec(sides[side], title, entry["@"].place_of(side)) for side in sides)
    down, back_down = (each.get("down", False) for each in sides.values())
    if a > b:
        a, b, forward, backward, down, back_down = b, a, backward, forward, back_down, down
    return Link(a=a, b=b, forward=forward, backward=backward, forward_down=down, backward_down=back_down)


class _Specs:
    """Makes specifications of links and notes impossible ones, each combination of values once."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._noted: set[str] = set()

    def spec(self, values: Read, title: str, place: Place) -> LinkSpec:
        """Return what one direction does; a plain one after noting that no link can do it."""
        try:
            spec = _spec(values)
            spec.check()
        except ValueError as error:
            if str(error) not in self._noted:
                self._noted.add(str(error))
                self._problems.add(f"{title}: {error}", "impairment", place)
            return PLAIN
        return spec


def _spec(values: Read) -> LinkSpec:
    """Return what one direction does; `none` takes away what a layer below gave."""
    stated = {key: value for key, value in values.items() if value != _NONE}
    limit, jitter, loss = stated.get("limit"), stated.get("jitter", {}), stated.get("loss", {})
    std, burst = jitter.get("std"), loss.get("burst")
    # Without their main value, which has been noted, the others mean nothing.
    return LinkSpec(
        rate_bps=stated["rate"].bps if "rate" in stated else None,
        delay_us=stated["delay"].us if "delay" in stated else None,
        jitter_us=std.us if std else None,
        jitter_distribution=jitter.get("distribution") if std else None,
        jitter_reorder=jitter.get("reorder") if std else None,
        loss=loss.get("mean"),
        loss_burst=float(burst) if burst is not None and "mean" in loss else None,
        limit_bytes=limit.bytes if limit else None,
        limit_packets=limit.packets if limit else None,
    )
