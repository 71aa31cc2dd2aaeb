"""Manage multicast groups: a source, members, and trees that are set or computed.

A group without explicit trees gets a shortest-path tree from its source to its members, recomputed when
members or nodes join or leave. An explicit tree is never changed; members that it does not reach receive
nothing, which is reported to the sender of the tree when it is set.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from orchestrator.controller.errors import GroupLabelTaken, GroupUnknown, TreeInvalid
from orchestrator.controller.routing import Edge, Edges, check_tree, children, shortest_path_tree
from orchestrator.protocol import ProtocolError
from orchestrator.protocol.messages import Group as DirectoryEntry
from orchestrator.protocol.messages import GroupRoute

__all__ = ["FIRST_ADDRESS", "MAX_LABEL", "Group", "Groups", "TreeSpec"]

FIRST_ADDRESS = 10
"""The first group's address counts from here; what lies below is left to people who need fixed addresses."""

MAX_LABEL = 200
"""Characters that a group's name may have."""


@dataclass(frozen=True, slots=True)
class TreeSpec:
    """A tree: its edges from the source on, and its share of the traffic."""

    tree_id: int
    edges: Edges
    weight: float | None = None


@dataclass(slots=True)
class Group:
    """A group; `trees` are those that were set, and are empty when the tree is computed."""

    id: int
    ip: str
    source: int
    label: str
    members: set[int] = field(default_factory=set)
    trees: tuple[TreeSpec, ...] = ()
    computed: tuple[TreeSpec, ...] = ()

    @property
    def in_force(self) -> tuple[TreeSpec, ...]:
        """The trees that packets take."""
        return self.trees or self.computed

    @property
    def entry(self) -> DirectoryEntry:
        """The group as the directory shows it."""
        return DirectoryEntry(self.id, self.ip, self.source, self.label)


_LABEL = f"a group's name has 1 to {MAX_LABEL} printable characters"


def _is_label(label: str) -> bool:
    return bool(label) and len(label) <= MAX_LABEL and label.isprintable()


class Groups:
    """All groups of the lab.

    Args:
        pool_base: Where group addresses come from.
        pool_mask: How many there are.
    """

    def __init__(self, pool_base: str = "239.255.0.0", pool_mask: str = "255.255.0.0") -> None:
        self._pool = ipaddress.IPv4Network(f"{pool_base}/{pool_mask}", strict=False)
        self._groups: dict[int, Group] = {}
        self._labels: dict[str, int] = {}
        self._next_id = 1

    def __iter__(self) -> Iterator[Group]:
        return iter(self._groups.values())

    def __len__(self) -> int:
        return len(self._groups)

    def __contains__(self, group_id: object) -> bool:
        return group_id in self._groups

    def group(self, group_id: int) -> Group:
        """Return a group.

        Raises:
            GroupUnknown: There is none of that number.
        """
        group = self._groups.get(group_id)
        if group is None:
            raise GroupUnknown(f"there is no group {group_id}", hint="its source has to create it first")
        return group

    def create(self, label: str, source: int) -> tuple[Group, bool]:
        """Return the group of that name and source, and whether it is new.

        Raises:
            GroupLabelTaken: Another node has a group of that name, or it is no name.
        """
        if not _is_label(label):
            raise GroupLabelTaken(_LABEL, found=repr(label[:60]))
        known = self._labels.get(label)
        if known is not None:
            group = self._groups[known]
            if group.source != source:
                raise GroupLabelTaken(
                    f"the group `{label}` belongs to node {group.source}", hint="choose another name"
                )
            return group, False
        while self._next_id in self._groups:
            self._next_id += 1
        group = Group(self._next_id, self.address(self._next_id), source, label)
        self.add(group)
        return group, True

    def refusal(self, group_id: int, label: str, address: str | None) -> str:
        """Return why a group from the database is invalid; empty if it is valid."""
        if not 0 < group_id < 2**32:
            return "its number does not lie between 1 and 4294967295"
        if not _is_label(label):
            return _LABEL
        try:
            if ipaddress.IPv4Address(address or self.address(group_id)) in self._pool:
                return ""
        except ProtocolError as error:
            return error.message
        except ValueError:
            pass
        return f"{str(address)[:60]} is no address of the pool {self._pool}"

    def add(self, group: Group) -> None:
        """Take a group that exists already."""
        old = self._groups.get(group.id)
        if old is not None:
            self._labels.pop(old.label, None)
        self._groups[group.id] = group
        self._labels[group.label] = group.id

    def drop(self, group_id: int) -> None:
        """Forget a group."""
        group = self._groups.pop(group_id, None)
        if group is not None:
            self._labels.pop(group.label, None)

    def address(self, group_id: int) -> str:
        """Return the address of a group.

        Raises:
            ProtocolError: The pool is used up.
        """
        offset = FIRST_ADDRESS - 1 + group_id
        if offset >= self._pool.num_addresses - 1:
            raise ProtocolError(f"the pool {self._pool} has no address left", id="group.pool")
        return str(self._pool[offset])

    def join(self, group_id: int, node: int) -> bool:
        """Make a node a member; return whether it was none."""
        group = self.group(group_id)
        new = node not in group.members
        group.members.add(node)
        return new

    def leave(self, group_id: int, node: int) -> bool:
        """Make a node no member any more; return whether it was one."""
        group = self.group(group_id)
        was = node in group.members
        group.members.discard(node)
        return was

    def set_trees(self, group_id: int, trees: Iterable[TreeSpec], links: Collection[Edge]) -> Group:
        """Give a group its trees; with none, they are computed again.

        Raises:
            TreeInvalid: One of them is no tree to the members; none is changed then.
        """
        group = self.group(group_id)
        given = tuple(sorted(trees, key=lambda tree: tree.tree_id))
        if len({tree.tree_id for tree in given}) < len(given):
            raise TreeInvalid("a tree number is given twice")
        for tree in given:
            try:
                check_tree(group.source, tree.edges, group.members, links)
            except TreeInvalid as error:
                if len(given) == 1:
                    raise
                raise TreeInvalid(f"tree {tree.tree_id}: {error.message}", hint=error.hint) from None
        group.trees = given
        return group

    def recompute(
        self, group: Group, neighbours: Mapping[int, Collection[int]], alive: Collection[int]
    ) -> tuple[int, ...]:
        """Compute a group's tree if none was set; return the members that cannot be reached."""
        if group.trees:
            return ()
        edges, missed = shortest_path_tree(group.source, group.members, neighbours, alive)
        group.computed = (TreeSpec(0, edges),) if edges else ()
        return missed

    def routes(self, group: Group) -> dict[int, tuple[GroupRoute, ...]]:
        """Return what a group means for each node that has a part in it."""
        found: dict[int, list[GroupRoute]] = {}
        trees = group.in_force or (TreeSpec(0, ()),)
        for tree in trees:
            after = children(tree.edges)
            part = {group.source, *group.members, *after, *(end for _, end in tree.edges)}
            for node in part:
                local = node in group.members and node != group.source
                route_id = group.id * 65_536 + tree.tree_id
                route = GroupRoute(tree.tree_id, route_id, after.get(node, ()), local, tree.weight)
                found.setdefault(node, []).append(route)
        return {node: tuple(routes) for node, routes in found.items()}
