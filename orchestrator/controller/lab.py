"""Combine registry, routes, groups and readiness into the lab's state, without sockets, Postgres or clock.

Events change the state and mark the nodes that they affect; `flush` returns the messages that bring each
marked node up to date. Many events between two flushes cost one comparison per node, so that a thousand nodes
that register at once do not cause a million messages.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence

from orchestrator.controller import link_states, reconcile
from orchestrator.controller.digests import directory_version, table_digest
from orchestrator.controller.explicit_routes import ExplicitRoutes
from orchestrator.controller.groups import Group, Groups, TreeSpec
from orchestrator.controller.lab_nodes import same_length
from orchestrator.controller.lab_routes import LabRoutes
from orchestrator.controller.outside import with_outside
from orchestrator.controller.readiness import Readiness
from orchestrator.controller.reconcile import WantedRoutes
from orchestrator.controller.registry import Link, Node, NodeStates, Registry, Wanted
from orchestrator.controller.routing import Edges, next_hop_tables, shortest_path_tree
from orchestrator.impairment import LinkSpec
from orchestrator.protocol.messages import (
    Group as DirectoryEntry,
)
from orchestrator.protocol.messages import (
    GroupRoute,
    Have,
    InstallGroupDirectory,
    InstallRoutes,
    Message,
    RemoveNode,
    StartUp,
)
from orchestrator.store import RouteRow

__all__ = ["Lab"]

_GONE = (NodeStates.UNREACHABLE, NodeStates.STOPPED, NodeStates.VACANT)
"""States of a node whose links are down at its neighbours."""


class Lab(LabRoutes):
    """The state of the lab.

    Args:
        registry: Its nodes and links.
        groups: Its groups.
        routes: Explicit routes.
        shortest_path: Whether everything else is routed by shortest path.
        metric: What makes a path short, as declared: `hops`, `delay` or `inverse_rate`.
        was_ready: The lab was ready before this controller began.
        partition: The groups of the partition in force.

    Attributes:
        problems: Explicit routes and trees that cannot be used, as sentences by what they are about.
        sides: The places of the groups of the partition in force, by node.
        explicit: The explicit routes.
        wanted_routes: The routes that each node should have, once they are computed.
    """

    def __init__(
        self,
        registry: Registry,
        groups: Groups,
        routes: Iterable[RouteRow] = (),
        *,
        shortest_path: bool = True,
        metric: str = "hops",
        uplinks: Collection[int] = (),
        was_ready: bool = False,
        partition: Sequence[Sequence[int]] = (),
    ) -> None:
        self.registry = registry
        self.groups = groups
        self.sides = {node: side for side, group in enumerate(partition) for node in group}
        self.problems: dict[str, str] = {}
        self.readiness = Readiness(registry, self.wanted_routes_version, passed=was_ready)
        self._shortest_path, self._metric, self._uplinks = shortest_path, metric, frozenset(uplinks)
        self.explicit = ExplicitRoutes()
        self._tables: dict[int, tuple[bytes, int]] = {}
        self.wanted_routes: dict[int, WantedRoutes] = {}
        self._trees: dict[int, dict[int, tuple[int, tuple[GroupRoute, ...]]]] = {}
        self._alive: frozenset[int] = frozenset()
        self._paths_stale = self._alive_stale = True
        self._groups_stale = {group.id for group in groups}
        self._returned: dict[int, Have] = {}
        self._dirty, self._unready = set[int](), set[int]()
        self.change_routes({route.route_id: route for route in routes})

    # Events.

    def register(self, node_id: int, hello: StartUp, peer: Hashable, *, peer_alive: bool = True) -> Node:
        """A node registers, or comes back.

        Raises:
            NodeUnknown: The topology has none of that number.
            NodeTaken: Another living process is that node.
        """
        before = self.registry.node(node_id)
        was_gone = before.state in _GONE or before.process not in (0, hello.process)
        node = self.registry.register(node_id, hello, peer, peer_alive=peer_alive)
        if was_gone:
            for remote in self.registry.connected(node_id):
                self._comes_up(self.registry.link(node_id, remote))
        self._note_refused(node)
        self._returned[node_id] = hello.have  # compared at the next flush, when all have registered
        self._touch(node_id, *self.registry.neighbours(node_id))
        return node

    def disconnect(self, peer: Hashable) -> list[Node]:
        """Handle the end of a connection; return its nodes. `mark_unreachable` follows after a grace time."""
        return self.registry.disconnect(peer)

    def mark_unreachable(self, node: Node, state: NodeStates) -> bool:
        """Mark a disconnected node as unreachable; return whether its state changed."""
        if node.peer is not None:
            return False
        if node.wanted is Wanted.PAUSED and state is NodeStates.UNREACHABLE:
            return False  # it cannot answer, and keeps everything
        was_expected, node.expected_back = node.expected_back, False
        # An external node is vacant again whether its program left or died.
        state = NodeStates.VACANT if node.external else state
        changed = was_expected or node.state is not state
        node.state = state
        node.reported = False
        node.links_up.clear()
        # Not what its neighbours say about their links to it: if only its control connection broke, the links
        # are still up and are not reported again.
        self._alive_stale = True
        self._touch(*self.registry.neighbours(node.id))
        return changed

    def leave(self, node_id: int) -> Node:
        """A node leaves on purpose; the caller then calls `mark_unreachable`."""
        node = self.registry.node(node_id)
        node.peer = None
        return node

    def link_state(self, node_id: int, remote_id: int, up: bool, kind: str = "", reason: str = "") -> bool:
        """A node reports a link as up, or as down with the reason; return whether that changed."""
        node = self.registry.node(node_id)
        self.registry.link(node_id, remote_id)
        changed = (remote_id in node.links_up) != up
        if up:
            node.links_up[remote_id] = kind
            node.links_down.pop(remote_id, None)
        else:
            node.links_up.pop(remote_id, None)
            changed |= node.links_down.get(remote_id, "") != reason
            node.links_down[remote_id] = reason
        link = self.registry.link(node_id, remote_id)
        if link.coming_up and link_states.is_up(self.registry, link):
            link.coming_up = False
            self._paths_stale = True
        self._unready.update((node_id, remote_id))
        return changed

    def reported_ready(self, node_id: int) -> None:
        """A node says that it is ready."""
        self.registry.node(node_id).reported = True
        self._unready.add(node_id)

    def confirmed(self, node: Node, message: Message) -> None:
        """Record that a node executed a command."""
        reconcile.confirmed(node, message)
        self._note_refused(node)
        self._unready.add(node.id)

    def refused(self, node: Node, message: Message, why: str) -> bool:
        """A node refused a command; return whether the problem is new."""
        # Routes that build on a failure are refused until they are sent in full: that is done at once, but
        # not again when the whole was refused, or the two would keep each other busy.
        partial = isinstance(message, InstallRoutes) and not message.reset
        changed = reconcile.refused(node, message, why)
        if partial:
            self._touch(node.id)
        self._note_refused(node)
        self._unready.add(node.id)
        return changed

    def resend(self, node_id: int) -> None:
        """Send a node again what it refused."""
        self._touch(node_id)

    def newly_ready(self) -> list[Node]:
        """Return the nodes that became ready since the last call."""
        looked_at = [self.registry.node(node_id) for node_id in sorted(self._unready)]
        self._unready.clear()
        return self.readiness.update(looked_at)

    def barrier_passed(self) -> bool:
        """Return, once, that the lab has become ready."""
        if not self.readiness.pass_barrier():
            return False
        self._refresh()  # from here on, vacant external nodes are not routed through
        return True

    # Changes.

    def change_links(self, changed: Mapping[tuple[int, int], Link | None]) -> None:
        """Add, replace or remove (None) links by their ends; nodes get the differences.

        Raises:
            NodeUnknown: A link ends at a node that there is not.
        """
        for ends, link in changed.items():
            old = self.registry.links.get(ends)
            if link is None and old is not None:
                self.registry.drop_link(*ends)
                self._changed(ends, paths=True)
            elif link is not None and old != link:
                link.partitioned |= self._crosses_partition(link)
                self.registry.put_link(link)
                self._comes_up(link)
                same = old is not None and old.down == link.down and same_length(old, link, self._metric)
                self._changed(ends, paths=not same)

    def set_link(self, a: int, b: int, spec: LinkSpec | None, *, to_end: int) -> Link:
        """Change what a link does to packets towards one of its ends.

        None goes back to what is declared, which includes whether the direction is down.
        """
        link = self.registry.link(a, b)
        start = a if to_end == b else b
        link.set_from(start, spec)
        self._changed((link.a, link.b), paths=False)
        if spec is None:
            self.take_down(link, start, down=link.declared_down_from(start))
        return link

    def take_down(self, link: Link, start: int, *, down: bool) -> bool:
        """Take the direction of a link that leaves one end down, or up; return whether that was a change."""
        before, was = (link.forward_down, link.backward_down), link.down
        link.take_down(start, down=down)
        changed = before != (link.forward_down, link.backward_down)
        if changed:
            if was == "both":
                self._comes_up(link)
            self._changed((link.a, link.b), paths=True)
        return changed

    def set_partition(self, groups: Sequence[Sequence[int]]) -> list[Link]:
        """Make this the partition, none without groups; return the links for which that is a change."""
        self.sides = {node: side for side, group in enumerate(groups) for node in group}
        links = self.registry.links.values()
        changed = [link for link in links if link.partitioned != self._crosses_partition(link)]
        for link in changed:
            link.partitioned = not link.partitioned
            self._comes_up(link)
            self._changed((link.a, link.b), paths=True)
        return changed

    def set_wanted(self, node_id: int, wanted: Wanted) -> bool:
        """Make this what a node shall be; return whether that is a change.

        A node that shall be stopped loses its links at once: its neighbours are told, and routes avoid it.
        """
        node = self.registry.node(node_id)
        if node.wanted is wanted:
            return False
        node.wanted = wanted
        away = node.peer is None and node.state in (NodeStates.READY, NodeStates.STOPPED)
        if wanted is Wanted.RUNNING and away:
            node.state = NodeStates.STARTING  # it was stopped, or paused until its connection ended
        self._alive_stale = True
        if wanted is Wanted.STOPPED:
            node.links_up.clear()
            node.reported = False
            self.problems.pop(f"node {node.id}", None)
        self._paths_stale = True  # and with them trees, which lead to it or through it
        self._touch(node_id, *self.registry.neighbours(node_id))
        return True

    def group_changed(self, group_id: int) -> None:
        """A group, its members or its trees are not what they were."""
        self._groups_stale.add(group_id)

    def set_trees(self, group_id: int, trees: Iterable[TreeSpec]) -> Group:
        """Give a group its trees.

        Raises:
            GroupUnknown: There is no such group.
            TreeInvalid: One of them is no tree to the members.
        """
        group = self.groups.set_trees(group_id, trees, self.registry.links)
        self.group_changed(group_id)
        return group

    def compute_tree(self, group_id: int, receivers: Iterable[int]) -> tuple[Edges, tuple[int, ...]]:
        """Return a tree of shortest paths for a group, and the receivers that it cannot reach."""
        group = self.groups.group(group_id)
        wanted = set(receivers) or group.members
        for receiver in wanted:
            self.registry.node(receiver)
        return shortest_path_tree(group.source, wanted, self._neighbour_map(), self._alive_now())

    # Messages and states that follow.

    def flush(self) -> dict[int, list[Message]]:
        """Return the messages that bring every touched node that is there up to date, by node."""
        self._refresh()
        self._refresh_groups()
        for node_id, have in self._returned.items():
            reconcile.remember(self.registry.node(node_id), have, self.wanted_routes[node_id], self.registry)
        self._returned.clear()
        found: dict[int, list[Message]] = {}
        for node_id in sorted(self._dirty):
            node = self.registry.node(node_id)
            if node.peer is None or node.wanted is Wanted.STOPPED:
                continue
            messages = reconcile.links(node, self.registry)
            messages += reconcile.routes(node, self.wanted_routes[node_id])
            messages += reconcile.trees(node, self._trees.get(node_id, {}))
            if messages:
                found[node_id] = messages
            if any(isinstance(message, RemoveNode) for message in messages):
                self._unready.update(self.registry.neighbours(node_id))
            self._unready.add(node_id)
        self._dirty.clear()
        return found

    @property
    def has_changes(self) -> bool:
        """Whether `flush` has something to look at."""
        return bool(self._dirty or self._groups_stale or self._paths_stale or self._alive_stale)

    def directory(self) -> tuple[DirectoryEntry, ...]:
        """Return all groups as they are sent to nodes."""
        return tuple(group.entry for group in self.groups)

    def full_directory(self) -> InstallGroupDirectory:
        """Return the message that tells a node of all groups."""
        entries = self.directory()
        return InstallGroupDirectory(directory_version(entries), entries, (), True)

    def wanted_routes_version(self, node_id: int) -> int | None:
        """Return the version of the routes that a node should have; None before they are computed."""
        wanted = self.wanted_routes.get(node_id)
        return None if wanted is None else wanted.version

    # Helpers.

    def _comes_up(self, link: Link) -> None:
        """Keep routes away from a link until both ends report it as up, once the lab was ready."""
        link.coming_up = self.readiness.passed and not link_states.is_up(self.registry, link)
        self._paths_stale |= link.coming_up

    def _crosses_partition(self, link: Link) -> bool:
        sides = [self.sides.get(end) for end in (link.a, link.b)]
        return None not in sides and sides[0] != sides[1]

    def _note_refused(self, node: Node) -> None:
        """Keep what a node could not do among the lab's problems, for as long as that is so."""
        about = f"node {node.id}"
        self.problems.pop(about, None)
        if node.problem:
            self.problems[about] = f"node {node.id}: {node.problem}"

    def _changed(self, ends: tuple[int, int], *, paths: bool) -> None:
        self._touch(*ends)
        if paths:
            self._paths_stale = True  # and with them every group, see `_refresh`

    def _alive_now(self) -> frozenset[int]:
        return frozenset(self.registry.alive(barrier_passed=self.readiness.passed))

    def _neighbour_map(self) -> Mapping[int, list[int]]:
        return {node.id: self.registry.reached(node.id) for node in self.registry}

    def _refresh(self) -> None:
        """Compute the tables again if links or nodes have come or gone, and what each node should know."""
        alive = self._alive_now()
        self._alive_stale = False
        if alive != self._alive or self._paths_stale or not self._tables:
            ids = [node.id for node in self.registry]
            usable = self.registry.usable()
            one_way = [(x.a, x.b) if x.down == "forward" else (x.b, x.a) for x in usable if x.down]
            lengths = self.registry.lengths(self._metric)
            tables = dict.fromkeys(ids, bytes(4 * (max(ids, default=0) + 1)))
            if self._shortest_path:
                pairs = [(x.a, x.b) for x in usable]
                tables = next_hop_tables(ids, pairs, alive, one_way, lengths)
                tables = with_outside(tables, self._uplinks, pairs, alive, one_way, lengths)
            self._alive, self._paths_stale = alive, False
            self._groups_stale.update(group.id for group in self.groups)
            self._routes_touched(self.explicit.set_carrying(self.registry.carrying(alive)))
            for node_id, table in tables.items():
                old = self._tables.get(node_id)
                if old is None or old[0] != table:
                    self._tables[node_id] = (table, table_digest(table))
                    self.wanted_routes.pop(node_id, None)
                    self._touch(node_id)
        self._make_wanted()
        self._go_on_with_routes()

    def _refresh_groups(self) -> None:
        if not self._groups_stale:
            return
        neighbours = self._neighbour_map()
        for group_id in self._groups_stale:
            touched = {node for node, trees in self._trees.items() if trees.pop(group_id, None) is not None}
            if group_id in self.groups:
                group = self.groups.group(group_id)
                missed = self.groups.recompute(group, neighbours, self._alive)
                self._note_missed(group, missed)
                for node, routes in self.groups.routes(group).items():
                    self._trees.setdefault(node, {})[group_id] = (group.source, routes)
                    touched.add(node)
            self._touch(*(node for node in touched if node in self.registry))
        self._groups_stale.clear()

    def _note_missed(self, group: Group, missed: tuple[int, ...]) -> None:
        about = f"group {group.id}"
        self.problems.pop(about, None)
        # While nodes are still coming, or one is away, this is what is to be expected; so it is where only
        # links and nodes are missing that are down because that was asked for.
        missed = tuple(node for node in missed if node in self._alive)
        if missed and self.readiness.passed:
            near = {node.id: self.registry.neighbours(node.id) for node in self.registry}
            stopped = {node.id for node in self.registry if node.wanted is Wanted.STOPPED}
            _, missed = shortest_path_tree(group.source, missed, near, self._alive | stopped)
        if missed and self.readiness.passed:
            names = ", ".join(str(node) for node in missed[:12])
            self.problems[about] = f"group `{group.label}` does not reach its members {names}"
