"""Keep the nodes and links of the lab: who is connected, what each node was sent and has confirmed.

Bookkeeping only: `reconcile` decides about messages, and nothing here reads a clock.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from orchestrator.controller.errors import LinkUnknown, NodeTaken, NodeUnknown
from orchestrator.impairment import PLAIN, LinkSpec, link_length
from orchestrator.protocol.messages import StartUp

__all__ = [
    "LINK_ROW",
    "Link",
    "Node",
    "NodeStates",
    "Registry",
    "Wanted",
    "link_lengths",
    "link_row_key",
    "pair",
]

LINK_ROW = "row of link "
"""The prefix of the keys of problems with rows of links."""


def link_row_key(a: int, b: int) -> str:
    """Return the key of a problem with the row of a link, as the lab keeps it."""
    return f"{LINK_ROW}{a}–{b}"


class NodeStates(StrEnum):
    """The state of a node, as shown to users."""

    STARTING = "starting"
    READY = "ready"
    UNREACHABLE = "unreachable"
    STOPPED = "stopped"
    PAUSED = "paused"
    VACANT = "vacant"


class Wanted(StrEnum):
    """What a node shall be, by request."""

    RUNNING = "running"
    STOPPED = "stopped"
    PAUSED = "paused"


@dataclass(slots=True)
class SentState:
    """The versions last sent to a node, and those that it has confirmed (`*_confirmed`).

    Attributes:
        latest: The last command about each subject; only its confirmation counts.
    """

    settings: bool = False
    table: int | None = None
    routes: dict[int, object] = field(default_factory=dict)
    pins: dict[int, object] = field(default_factory=dict)
    routes_version: int | None = None
    routes_confirmed: int | None = None
    links: dict[int, tuple[int, int]] = field(default_factory=dict)  # remote → (base, version)
    links_confirmed: dict[int, int] = field(default_factory=dict)
    removing: dict[int, int] = field(default_factory=dict)  # remote → removals sent and not answered
    trees: dict[int, int] = field(default_factory=dict)
    topology_ready: bool = False
    latest: dict[str, object] = field(default_factory=dict)


@dataclass(slots=True)
class Node:
    """A node: its declaration, its last known addresses, and its state.

    Attributes:
        peer: The connection that it is on, None while it is away.
        process: As it said; 0 when it has never registered.
        prefixes: The networks behind it.
        uplink: Whether it has a way to the outside.
        link_socket: The path of its process's unix socket for links, if it has one.
        links_up: Neighbours to which its link is up, by its own account, and what carries it.
        links_down: Why its link to a neighbour is not up, by its own account.
        reported: It said `NodeTopologyReady` since it came.
        expected_back: It is away, but expected back at any moment.
        wanted: What it shall be. One that is stopped by request has no links, and nobody waits for it; one
            that is paused keeps links and routes, and nobody waits for it either.
        problems: The commands that it refused, as sentences by subject.
    """

    id: int
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    external: bool = False
    operating_mode: str = "normal"
    declared_public_addr: str = ""
    state: NodeStates = NodeStates.STARTING
    peer: Hashable | None = None
    process: int = 0
    private_name: str = ""
    private_addr: str = ""
    public_addr: str = ""
    link_socket: str = ""
    mtu: int = 1500
    prefixes: tuple[str, ...] = ()
    uplink: bool = False
    links_up: dict[int, str] = field(default_factory=dict)
    links_down: dict[int, str] = field(default_factory=dict)
    reported: bool = False
    expected_back: bool = False
    wanted: Wanted = Wanted.RUNNING
    problems: dict[str, str] = field(default_factory=dict)
    sent_state: SentState = field(default_factory=SentState)

    @property
    def problem(self) -> str:
        """The first of its problems, empty when it has none."""
        return next(iter(self.problems.values()), "")

    @property
    def shown_state(self) -> NodeStates:
        """Its state in `nm status`: unreachable from the moment its connection ends, though expected back."""
        if self.wanted is not Wanted.RUNNING:
            return NodeStates(self.wanted.value)
        return NodeStates.UNREACHABLE if self.expected_back and self.state is NodeStates.READY else self.state

    @property
    def known(self) -> bool:
        """Whether it has registered at least once, so that its neighbours can be sent its address."""
        return self.process != 0 or self.private_addr != ""


@dataclass(slots=True)
class Link:
    """A link; `forward` is what happens to packets from `a` to `b`, and `a` is less than `b`.

    Attributes:
        forward_down: Packets from `a` to `b` are dropped, because that was asked for.
        backward_down: Those from `b` to `a` are.
        partitioned: Its ends are in different groups of the partition in force.
        forward_down_declared: The topology says that packets from `a` to `b` are dropped.
        backward_down_declared: It says so of those from `b` to `a`.
        coming_up: It was brought up, or an end returned, and both ends have not reported it as up yet: no
            route leads over it.
    """

    a: int
    b: int
    forward: LinkSpec = PLAIN
    backward: LinkSpec = PLAIN
    forward_now: LinkSpec | None = None
    backward_now: LinkSpec | None = None
    origin: str = "file"
    forward_down: bool = False
    backward_down: bool = False
    partitioned: bool = False
    forward_down_declared: bool = field(default=False, compare=False)
    backward_down_declared: bool = field(default=False, compare=False)
    coming_up: bool = field(default=False, compare=False)

    @property
    def down(self) -> str:
        """The direction that was taken down: `forward`, `backward`, `both`, or empty."""
        if self.partitioned or (self.forward_down and self.backward_down):
            return "both"
        return "forward" if self.forward_down else "backward" if self.backward_down else ""

    @property
    def down_reason(self) -> str:
        """Why a direction is down, as words; empty when none was taken down."""
        if self.partitioned:
            return "partition"
        if self.down == "both":
            return "taken down"
        start, end = (self.a, self.b) if self.forward_down else (self.b, self.a)
        return f"{start} → {end} is taken down" if self.down else ""

    @property
    def changed(self) -> bool:
        """Whether it differs from what is declared, a partition aside."""
        now = (self.forward_now, self.backward_now)
        down = (self.forward_down, self.backward_down)
        return now != (None, None) or down != (self.forward_down_declared, self.backward_down_declared)

    def carries_from(self, node_id: int) -> bool:
        """Tell whether packets that leave this end are carried, as far as was asked for."""
        return self.down not in ("both", "forward" if node_id == self.a else "backward")

    def take_down(self, node_id: int, *, down: bool) -> None:
        """Take the direction that leaves this end down, or up again; a partition stays."""
        if node_id == self.a:
            self.forward_down = down
        else:
            self.backward_down = down

    def declared_down_from(self, node_id: int) -> bool:
        """Tell whether the topology says that packets that leave this end are dropped."""
        return self.forward_down_declared if node_id == self.a else self.backward_down_declared

    def spec_from(self, node_id: int) -> LinkSpec:
        """What happens to packets that leave this end, at the moment."""
        if node_id == self.a:
            return self.forward if self.forward_now is None else self.forward_now
        return self.backward if self.backward_now is None else self.backward_now

    def declared_from(self, node_id: int) -> LinkSpec:
        """What the topology says happens to packets that leave this end."""
        return self.forward if node_id == self.a else self.backward

    def set_from(self, node_id: int, spec: LinkSpec | None) -> None:
        """Change what happens to packets that leave this end; None goes back to what is declared."""
        if node_id == self.a:
            self.forward_now = spec
        else:
            self.backward_now = spec


class Registry:
    """All nodes and links of the lab.

    Args:
        nodes: The nodes.
        links: Links between them.
        link_secret: From which the keys of links derive; without it there are none.
    """

    def __init__(
        self, nodes: Iterable[Node] = (), links: Iterable[Link] = (), *, link_secret: str = ""
    ) -> None:
        self._link_secret = link_secret
        self._nodes: dict[int, Node] = {node.id: node for node in sorted(nodes, key=lambda node: node.id)}
        self._links: dict[tuple[int, int], Link] = {}
        self._neighbours: dict[int, set[int]] = {node_id: set() for node_id in self._nodes}
        for link in links:
            self.put_link(link)

    # Nodes.

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes.values())

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, node_id: object) -> bool:
        return node_id in self._nodes

    def node(self, node_id: int) -> Node:
        """Return a node.

        Raises:
            NodeUnknown: The topology has none of that number.
        """
        node = self._nodes.get(node_id)
        if node is None:
            last = next(reversed(self._nodes), 0)
            raise NodeUnknown(f"there is no node {node_id} in this lab", hint=f"its nodes are 1 to {last}")
        return node

    def put_node(self, node: Node) -> None:
        """Add a node, which has no links yet."""
        self._nodes = dict(sorted({**self._nodes, node.id: node}.items()))
        self._neighbours.setdefault(node.id, set())

    def drop_node(self, node_id: int) -> None:
        """Forget a node, which has no links any more."""
        self._nodes.pop(node_id, None)
        self._neighbours.pop(node_id, None)

    def register(self, node_id: int, hello: StartUp, peer: Hashable, *, peer_alive: bool = True) -> Node:
        """Register a node, or register it again, on a connection.

        The state sent before is discarded, except for what it reports to still have; see
        `reconcile.remember`.

        Raises:
            NodeUnknown: The topology has none of that number.
            NodeTaken: Another living process is that node.
        """
        node = self.node(node_id)
        if node.peer not in (None, peer) and peer_alive and node.process != hello.process:
            raise NodeTaken(
                f"node {node_id} is in use by another program",
                hint="end that one first, or use another external node",
            )
        same = hello.process != 0 and node.process == hello.process
        node.links_down.clear()
        if not same:
            node.links_up.clear()
        node.peer = peer
        node.process = hello.process
        node.private_name = hello.private_network_name
        node.private_addr = hello.private_network_addr
        node.public_addr = hello.public_network_addr or node.declared_public_addr
        node.link_socket = hello.link_socket
        node.mtu = hello.mtu
        node.reported = False
        node.expected_back = False
        node.problems.clear()
        node.sent_state = SentState()
        node.state = NodeStates.STARTING
        return node

    def disconnect(self, peer: Hashable) -> list[Node]:
        """Return the nodes of a connection that has ended; they are away, and awaited for a moment."""
        lost = [node for node in self._nodes.values() if node.peer == peer]
        for node in lost:
            node.peer = None
            node.expected_back = node.wanted is Wanted.RUNNING
        return lost

    # Links.

    @property
    def links(self) -> Mapping[tuple[int, int], Link]:
        """All links by their ends, the lesser first."""
        return self._links

    def link(self, a: int, b: int) -> Link:
        """Return a link, whichever end is named first.

        Raises:
            LinkUnknown: There is none.
        """
        link = self._links.get(pair(a, b))
        if link is None:
            near = ", ".join(str(each) for each in sorted(self._neighbours.get(a, ()))[:12])
            hint = f"node {a} has links to {near}" if near else f"node {a} has no links"
            raise LinkUnknown(f"there is no link between node {a} and node {b}", hint=hint)
        return link

    def link_key(self, a: int, b: int) -> bytes:
        """Return the key of the link between two nodes: the same from either end, and another for each pair.

        The nodes get it in `AddNode` and prove to each other that they have it; it never goes between them.
        A leaked key is valid for that link alone. Empty without a secret.
        """
        if not self._link_secret:
            return b""
        ends = b"".join(node.to_bytes(4, "little") for node in pair(a, b))
        return hmac.digest(self._link_secret.encode(), b"nm link" + ends, "sha256")

    def put_link(self, link: Link) -> None:
        """Add a link, or replace the one between the same ends; what Postgres does not have of it stays.

        Raises:
            NodeUnknown: An end is no node of the lab.
        """
        for end in (link.a, link.b):
            self.node(end)
        if link.a >= link.b:
            raise LinkUnknown(f"a link goes from the lesser node to the greater, not {link.a} to {link.b}")
        old = self._links.get((link.a, link.b))
        if old is not None:
            link.forward_down_declared = old.forward_down_declared
            link.backward_down_declared = old.backward_down_declared
            link.coming_up = old.coming_up
        self._links[(link.a, link.b)] = link
        self._neighbours[link.a].add(link.b)
        self._neighbours[link.b].add(link.a)

    def drop_link(self, a: int, b: int) -> None:
        """Forget a link."""
        if self._links.pop(pair(a, b), None) is not None:
            self._neighbours[a].discard(b)
            self._neighbours[b].discard(a)

    def neighbours(self, node_id: int) -> list[int]:
        """Return the ids of a node's neighbours, in order."""
        return sorted(self._neighbours.get(node_id, ()))

    def connected(self, node_id: int) -> list[int]:
        """Return the neighbours to which there is a link that was not taken down in both directions.

        A node that is stopped by request has none.
        """
        near = self.neighbours(node_id)
        return [each for each in near if self.exists(self._links[pair(node_id, each)])]

    def exists(self, link: Link) -> bool:
        """Tell whether the ends of a link are to have it, as far as was asked for."""
        stopped = Wanted.STOPPED in (self._nodes[link.a].wanted, self._nodes[link.b].wanted)
        return link.down != "both" and not stopped

    def usable(self) -> list[Link]:
        """Return the links that routes may use, in one direction at least."""
        return [link for link in self._links.values() if self.exists(link) and not link.coming_up]

    def lengths(self, metric: str) -> dict[tuple[int, int], int] | None:
        """Return the declared lengths of links, as (from, to); None where every link is one hop."""
        return link_lengths(self._links.values(), metric)

    def carrying(self, alive: Collection[int]) -> frozenset[tuple[int, int]]:
        """Return the directions of links, as (from, to), in which living nodes carry packets."""
        links = [link for link in self.usable() if link.a in alive and link.b in alive]
        forward = ((link.a, link.b) for link in links if link.carries_from(link.a))
        backward = ((link.b, link.a) for link in links if link.carries_from(link.b))
        return frozenset((*forward, *backward))

    def reached(self, node_id: int) -> list[int]:
        """Return the neighbours to which packets from a node are carried."""
        near = ((each, self._links[pair(node_id, each)]) for each in self.neighbours(node_id))
        return [
            each
            for each, link in near
            if self.exists(link) and not link.coming_up and link.carries_from(node_id)
        ]

    # Who may carry traffic.

    def alive(self, *, barrier_passed: bool) -> set[int]:
        """Return the nodes that routes may use.

        Before the barrier every node that will be started counts, so that routes are computed once and not
        with every node that comes.
        """
        return {
            node.id
            for node in self._nodes.values()
            if node.wanted is not Wanted.STOPPED
            and (
                node.peer is not None
                or node.expected_back
                or node.wanted is Wanted.PAUSED
                or (not barrier_passed and not node.external)
            )
        }


def pair(a: int, b: int) -> tuple[int, int]:
    """Return a link's ends with the lesser first."""
    return (a, b) if a < b else (b, a)


def link_lengths(links: Iterable[Link], metric: str) -> dict[tuple[int, int], int] | None:
    """Return the declared lengths of links, as (from, to); None where every link is one hop."""
    if metric == "hops":
        return None
    found: dict[tuple[int, int], int] = {}
    for link in links:
        found[link.a, link.b] = link_length(link.forward, metric)
        found[link.b, link.a] = link_length(link.backward, metric)
    return found
