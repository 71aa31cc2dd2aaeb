"""The difference between two topologies: what a running lab has to change to become another one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, TypeVar

from orchestrator.topology.link_words import shown
from orchestrator.topology.model import Link, Node, Topology
from orchestrator.topology.writing import (
    flow,
    flow_words,
    node_words,
    route_words,
    service_words,
)

__all__ = ["Difference", "Entry", "difference"]

Do = Literal["add", "remove", "change"]
Ends = tuple[int, int]
K = TypeVar("K", int, tuple[int, int])
V = TypeVar("V")
Keys = Mapping[str, tuple[Any, Any]]

NOT_LIVE = "needs `nm down` and `nm up`"
"""What is said of a change that a running lab cannot make."""

_LISTS = ("routes", "flows", "services", "tests")
_LIVE_NODE_KEYS = frozenset({"labels"})
"""What of a node may change while it runs; all else is fixed when its process or container is made."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a difference.

    Attributes:
        kind: `node`, `link`, `route`, `flow`, `service`, `test`, or `lab` for a value of the whole file.
        do: `add`, `remove` or `change`.
        what: Which one, in words.
        keys: Of a change, the values before and after by key, as a topology file has them.
        live: Whether it takes effect while the lab runs.
    """

    kind: str
    do: Do
    what: str
    keys: Keys = field(default_factory=dict)
    live: bool = True

    def as_json(self) -> dict[str, Any]:
        """Return it as `nm plan -o json` shows it."""
        keys = {key: {"before": before, "after": after} for key, (before, after) in self.keys.items()}
        return {"kind": self.kind, "do": self.do, "what": self.what, "keys": keys, "live": self.live}


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs between two topologies; values are those before and after, None where there is none.

    Attributes:
        nodes: Nodes that differ, by number.
        links: Links that differ, by their ends.
        lists: Routes, flows, services and tests, where they differ, whole.
        values: The other values of the file that differ.
    """

    nodes: Mapping[int, tuple[Node | None, Node | None]] = field(default_factory=dict)
    links: Mapping[Ends, tuple[Link | None, Link | None]] = field(default_factory=dict)
    lists: Mapping[str, tuple[tuple[Any, ...], tuple[Any, ...]]] = field(default_factory=dict)
    values: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.nodes or self.links or self.lists or self.values)

    @property
    def added(self) -> list[int]:
        """The numbers of nodes that are new."""
        return [number for number, (before, _) in self.nodes.items() if before is None]

    @property
    def removed(self) -> list[int]:
        """The numbers of nodes that are no more."""
        return [number for number, (_, after) in self.nodes.items() if after is None]

    def apply(self, topology: Topology) -> Topology:
        """Return a topology with the values after the change in place of those before."""
        nodes = {number: after for number, (_, after) in self.nodes.items() if after is not None}
        kept = {number: node for number, node in topology.nodes.items() if number not in self.nodes}
        links = [link for link in topology.links if (link.a, link.b) not in self.links]
        links += [after for _, after in self.links.values() if after is not None]
        after = {key: value for key, (_, value) in {**self.lists, **self.values}.items()}
        return replace(
            topology,
            nodes=dict(sorted({**kept, **nodes}.items())),
            links=tuple(sorted(links, key=lambda link: (link.a, link.b))),
            **after,
        )

    def entries(self) -> list[Entry]:
        """Return it in words: nodes, links, then the rest, each in the order of the file."""
        found = [_node_entry(number, *pair) for number, pair in self.nodes.items()]
        found += [_link_entry(ends, *pair) for ends, pair in self.links.items()]
        for key, (before, after) in self.lists.items():
            found += _list_entries(key, before, after)
        for key, (old, new) in self.values.items():
            found.append(Entry("lab", "change", key, {key: (_plain(old), _plain(new))}, live=False))
        return found


def difference(before: Topology, after: Topology) -> Difference:
    """Return what has to change for the first to become the second; where each came from does not count."""
    special = {"nodes", "links", *_LISTS}
    others = [each.name for each in fields(Topology) if each.compare and each.name not in special]
    return Difference(
        nodes=_differing(before.nodes, after.nodes),
        links=_differing(
            {(link.a, link.b): link for link in before.links},
            {(link.a, link.b): link for link in after.links},
        ),
        lists=_unequal(before, after, _LISTS),
        values=_unequal(before, after, others),
    )


def _differing(before: Mapping[K, V], after: Mapping[K, V]) -> dict[K, tuple[V | None, V | None]]:
    keys = sorted(before.keys() | after.keys())
    return {key: (before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)}


def _unequal(before: Topology, after: Topology, keys: Iterable[str]) -> dict[str, tuple[Any, Any]]:
    pairs = {key: (getattr(before, key), getattr(after, key)) for key in keys}
    return {key: (old, new) for key, (old, new) in pairs.items() if old != new}


def _node_entry(number: int, before: Node | None, after: Node | None) -> Entry:
    node = after or before
    assert node is not None, "a node that differs is there before or after"
    what = f"node {number}" + (f" ({node.name})" if node.name != f"node-{number}" else "")
    if before is None or after is None:
        # All nodes have routes to the networks behind one, and to the outside, from their start.
        live = not (node.prefixes or node.uplink)
        return Entry("node", "add" if before is None else "remove", what, live=live)
    keys = _keys(node_words(before), node_words(after))
    return Entry("node", "change", what, keys, live=keys.keys() <= _LIVE_NODE_KEYS)


def _link_entry(ends: Ends, before: Link | None, after: Link | None) -> Entry:
    what = f"link {ends[0]}–{ends[1]}"
    if before is None or after is None:
        return Entry("link", "add" if before is None else "remove", what)
    forward = _keys(*(shown(link.forward) | {"down": link.forward_down} for link in (before, after)))
    backward = _keys(*(shown(link.backward) | {"down": link.backward_down} for link in (before, after)))
    if forward == backward:
        return Entry("link", "change", what, forward)
    sides = {f"{ends[0]} → {ends[1]}": forward, f"{ends[1]} → {ends[0]}": backward}
    keys = {f"{key} {side}": value for side, found in sides.items() for key, value in found.items()}
    return Entry("link", "change", what, keys)


def _list_entries(key: str, before: Sequence[Any], after: Sequence[Any]) -> list[Entry]:
    kind = key.removesuffix("s")
    words = _WORDS[key]
    gone, new = _without(before, after), _without(after, before)
    found = [Entry(kind, "remove", words(each)) for each in gone]
    found += [Entry(kind, "add", words(each)) for each in new]
    return found or [Entry(kind, "change", f"the order of the {key}")]


def _without(these: Sequence[Any], others: Sequence[Any]) -> list[Any]:
    """Return what is in one list and not in another, as often as it is there more."""
    left = list(others)
    found = []
    for each in these:
        if each in left:
            left.remove(each)
        else:
            found.append(each)
    return found


def _keys(before: Mapping[str, Any], after: Mapping[str, Any]) -> Keys:
    pairs = {key: (before.get(key), after.get(key)) for key in (*before, *after)}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _plain(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


_WORDS: Mapping[str, Any] = {
    "routes": lambda each: f"route {flow(route_words(each))}",
    "flows": lambda each: f"flow {flow(flow_words(each))}",
    "services": lambda each: f"service {each.name} {flow(service_words(each))}",
    "tests": lambda each: f"test {each.name}",
}
