"""Add nodes and links to a topology, and take them out of it: the targets of `nm node` and `nm link`."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from orchestrator import topology
from orchestrator.errors import NmError, UsageError
from orchestrator.impairment import PLAIN
from orchestrator.topology import Link, Node, Topology
from orchestrator.topology.language import NODE_NAME
from orchestrator.topology.links import read_change, read_values
from orchestrator.topology.nodes import RESERVED_NAMES, STANDARD_NAME

__all__ = ["NewLink", "new_link", "with_link", "with_node", "without_link", "without_nodes"]

MOST_AHEAD = 1_000
"""How far beyond the highest number a new node's may be: the tables of all nodes have a place for each."""

_OWN = frozenset({"id", "name", "labels", "external", "prefixes", "sysctls", "uplink"})
"""What a new node does not have in common with the others."""


@dataclass(frozen=True)
class NewLink:
    """A link of a new node.

    Attributes:
        peer: The node at the other end, by number or name.
        values: What it does, in the words of the topology file; `forward` is from the new node to the peer.
    """

    peer: int | str
    values: Mapping[str, object] = field(default_factory=dict)


def new_link(word: str) -> NewLink:
    """Read a link as an option states it: `PEER` or `PEER,key=value,…`.

    Raises:
        UsageError: It is none.
    """
    peer, *pairs = (part.strip() for part in word.split(","))
    values = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    if not peer or len(values) < len(pairs):
        raise UsageError(
            f"`{word}` is no link of a node",
            id="link.option",
            found=word,
            expected="PEER or PEER,key=value,… such as `1,delay=5 ms,loss=1 %`",
        )
    return NewLink(peer, {key.strip(): value.strip() for key, value in values.items()})


def with_node(
    meant: Topology,
    number: int | None = None,
    *,
    name: str | None = None,
    links: Sequence[NewLink] = (),
    labels: Mapping[str, str] | None = None,
    external: bool = False,
) -> tuple[Topology, int]:
    """Return a topology with one node more, and its number: the first free one unless given.

    What all nodes have alike, such as their MTU, the new one has as well.

    Raises:
        UsageError: The number or the name is taken or impossible, or a link has no other end.
        LinkChangeInvalid: A value of a link is wrong.
    """
    _require_stated_routes(meant)
    highest = max(meant.nodes)
    if number is None:
        number = next(each for each in range(1, highest + 2) if each not in meant.nodes)
    if number in meant.nodes:
        raise UsageError(f"there is a node {number} already", id="node.exists", found=str(number))
    if not 0 < number <= highest + MOST_AHEAD:
        raise UsageError(
            f"no node can have the number {number}",
            id="node.number",
            found=str(number),
            expected=f"1 to {highest + MOST_AHEAD}",
        )
    node = _like_others(meant, Node(id=number, name=_name(meant, number, name)))
    node = replace(node, labels=dict(labels or {}), external=external)
    nodes = dict(sorted({**meant.nodes, number: node}.items()))
    grown = replace(meant, nodes=nodes, generator=None)
    for link in links:
        grown = with_link(grown, number, link.peer, link.values)
    return _checked(grown), number


def with_link(meant: Topology, a: int | str, b: int | str, values: Mapping[str, object]) -> Topology:
    """Return a topology with one link more; `forward` is from `a` to `b`.

    Raises:
        UsageError: An end is no node, both are the same, or there is such a link.
        LinkChangeInvalid: A value is wrong.
    """
    _require_stated_routes(meant)
    start, end = _number(meant, a), _number(meant, b)
    low, high = sorted((start, end))
    if start == end:
        raise UsageError(f"a link of node {start} with itself is none", id="link.to-itself", found=str(start))
    if any((link.a, link.b) == (low, high) for link in meant.links):
        hint = f"`nm link set {low} {high}` changes what it does"
        raise UsageError(f"there is a link {low}–{high} already", id="link.exists", hint=hint)
    forward = backward = PLAIN
    if values:
        text = {key: value for key, value in values.items() if isinstance(value, str)}
        change = read_change(text) if len(text) == len(values) else read_values(values, "the new link")
        forward = change.forward or PLAIN
        backward = change.backward or forward
    if start > end:
        forward, backward = backward, forward
    links = [*meant.links, Link(a=low, b=high, forward=forward, backward=backward)]
    return replace(meant, links=tuple(sorted(links, key=lambda link: (link.a, link.b))), generator=None)


def without_link(meant: Topology, a: int | str, b: int | str, *, force: bool = False) -> Topology:
    """Return a topology without a link.

    Args:
        meant: The topology.
        a: One end.
        b: The other.
        force: Take explicit routes over it out as well.

    Raises:
        UsageError: There is no such link, or an explicit route leads over it.
    """
    _require_stated_routes(meant)
    low, high = sorted((_number(meant, a), _number(meant, b)))
    links = tuple(link for link in meant.links if (link.a, link.b) != (low, high))
    if len(links) == len(meant.links):
        raise UsageError(f"there is no link {low}–{high}", id="link.unknown", found=f"{low}–{high}")
    over = [each for each in meant.routes if {(low, high), (high, low)} & set(each.edges)]
    _require_unused([f"the route {each.src} → {each.dst}" for each in over], f"link {low}–{high}", force)
    routes = tuple(each for each in meant.routes if each not in over)
    return _checked(_without_pinned(replace(meant, links=links, routes=routes, generator=None)))


def without_nodes(meant: Topology, numbers: Collection[int], *, force: bool = False) -> Topology:
    """Return a topology without some nodes and their links.

    Args:
        meant: The topology.
        numbers: The nodes.
        force: Take explicit routes, flows, services and tests that need one of them out as well.

    Raises:
        UsageError: No node would be left, or something needs one of them.
    """
    _require_stated_routes(meant)
    gone = set(numbers)
    if gone >= meant.nodes.keys():
        raise UsageError("a lab keeps one node at least", id="node.last", hint="`nm down` removes the lab")
    routes = [each for each in meant.routes if gone & {each.src, each.dst, *_ends(each.edges)}]
    flows = [each for each in meant.flows if gone & {each.src, each.dst, *(each.route or ())}]
    services = [each for each in meant.services if gone & set(each.nodes)]
    left = replace(
        meant,
        nodes={number: node for number, node in meant.nodes.items() if number not in gone},
        links=tuple(link for link in meant.links if not gone & {link.a, link.b}),
        routes=tuple(each for each in meant.routes if each not in routes),
        flows=tuple(each for each in meant.flows if each not in flows),
        services=_services_without(meant.services, gone),
        tests=(),
        generator=None,
    )
    left = _without_pinned(left)
    kept = [each for each in meant.tests if _fits(replace(left, tests=(each,)))]
    uses = [f"the route {each.src} → {each.dst}" for each in routes]
    uses += [f"the flow {each.src} → {each.dst}" for each in flows]
    uses += [f"the service {each.name}" for each in services]
    uses += [f"the test `{each.name}`" for each in meant.tests if each not in kept]
    names = ", ".join(map(str, sorted(gone)))
    _require_unused(uses, f"node {names}" if len(gone) == 1 else f"one of the nodes {names}", force)
    return _checked(replace(left, tests=tuple(kept)))


def _require_stated_routes(meant: Topology) -> None:
    """Refuse a change of nodes or links where a function of the user has to return other routes for it.

    Raises:
        UsageError: The lab's routes are those of a function.
    """
    if meant.function:
        raise UsageError(
            f"the routes of {meant.name} are those of `{meant.function}` for the nodes and links that it has",
            id="lab.routing-function",
            found=f"routing: {{function: {meant.function}}}",
            hint="change the topology file, and `nm up FILE` calls the function again",
        )


def _like_others(meant: Topology, node: Node) -> Node:
    shared: dict[str, Any] = {}
    for key in (each.name for each in fields(Node)):
        first = getattr(next(iter(meant.nodes.values())), key)
        if key not in _OWN and all(getattr(other, key) == first for other in meant.nodes.values()):
            shared[key] = first
    return replace(node, **shared)


def _name(meant: Topology, number: int, name: str | None) -> str:
    import re

    if name is None:
        return f"node-{number}"
    folded = name.casefold()
    own = f"node-{number}"
    taken = folded in RESERVED_NAMES or (STANDARD_NAME.fullmatch(name) and folded != own)
    if not re.fullmatch(NODE_NAME, name) or taken:
        raise UsageError(
            f"node {number} cannot be called `{name}`",
            id="node.name",
            found=name,
            expected="a name of letters, digits, `-` and `_` that starts with a letter",
        )
    other = next((node for node in meant.nodes.values() if node.name.casefold() == folded), None)
    if other is not None:
        raise UsageError(f"node {other.id} is called `{other.name}` already", id="node.name", found=name)
    return name


def _number(meant: Topology, word: int | str) -> int:
    (number, *more) = topology.select(meant, word)
    if more:
        raise UsageError(f"`{word}` means several nodes", id="node.ambiguous", found=str(word))
    return number


def _require_unused(uses: Sequence[str], what: str, force: bool) -> None:
    if uses and not force:
        more = f" and {len(uses) - 4} more" if len(uses) > 4 else ""
        raise UsageError(
            f"{what} is in use: {', '.join(uses[:4])}{more} {'need' if len(uses) > 1 else 'needs'} it",
            id="lab.in-use",
            found=uses[0],
            hint="`--force` removes that as well",
        )


def _services_without(services: Iterable[Any], gone: Collection[int]) -> tuple[Any, ...]:
    """Return services without some nodes; one without any goes, and what others say of it."""
    kept = [replace(each, nodes=tuple(n for n in each.nodes if n not in gone)) for each in services]
    kept = [each for each in kept if each.nodes]
    names = {each.name for each in kept}
    return tuple(
        replace(each, depends_on={name: it for name, it in each.depends_on.items() if name in names})
        for each in kept
    )


def _without_pinned(meant: Topology) -> Topology:
    """Return a topology without flows whose route is gone."""
    paths = {route.path for route in meant.routes}
    return replace(
        meant, flows=tuple(each for each in meant.flows if each.route is None or each.route in paths)
    )


def _ends(edges: Iterable[tuple[int, int]]) -> set[int]:
    return {end for edge in edges for end in edge}


def _fits(meant: Topology) -> bool:
    try:
        _read_again(meant)
    except NmError:
        return False
    return True


def _checked(meant: Topology) -> Topology:
    """Return a topology as it is read from its file, where tests and services find their nodes again.

    Raises:
        TopologyInvalid: It cannot be: the new lab would not be valid.
    """
    return replace(_read_again(meant), file=meant.file)


def _read_again(meant: Topology) -> Topology:
    """Return a topology as it is read from its file, which names its traces as files beside it.

    Raises:
        TopologyInvalid: The file is wrong.
    """
    traces = topology.traces(meant)
    if not traces:
        return topology.loads(topology.dump(meant), "the lab's topology")
    with tempfile.TemporaryDirectory(prefix="nm-traces-") as folder:
        for name, text in traces.items():
            Path(folder, name).write_text(text)
        return topology.loads(topology.dump(meant), str(Path(folder, "the lab's topology")))
