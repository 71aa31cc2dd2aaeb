"""`AsyncGroups`: the multicast groups of a lab that is up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.deploy.home import LabDirectory
from orchestrator.errors import UsageError
from orchestrator.lab.operator import CHANGE_S, operator
from orchestrator.protocol import Message
from orchestrator.protocol.messages import (
    AddGroup,
    ChangeMembers,
    DeleteGroup,
    GetGroups,
    SetGroupTrees,
    Tree,
)

if TYPE_CHECKING:
    from orchestrator.lab.handle import AsyncLab

__all__ = ["AsyncGroups", "Group", "GroupTree"]

Edges = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class GroupTree:
    """A tree of a group: directed edges from the source on, and its share of the traffic if it has one."""

    tree_id: int
    edges: Edges
    weight: float | None = None


@dataclass(frozen=True)
class Group:
    """A multicast group.

    Attributes:
        id: Its number.
        label: Its name.
        address: Its IP address.
        source: The node from which its packets come.
        members: The nodes that receive them, in order.
        explicit: Whether its trees were set; otherwise they are computed, and follow members and links.
        trees: The trees in force.
    """

    id: int
    label: str
    address: str
    source: int
    members: tuple[int, ...]
    explicit: bool
    trees: tuple[GroupTree, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it as `nm group … -o json` shows it."""
        trees = [
            {"tree_id": tree.tree_id, "edges": [list(edge) for edge in tree.edges], "weight": tree.weight}
            for tree in self.trees
        ]
        return {
            "group_id": self.id,
            "label": self.label,
            "group_ip": self.address,
            "src_node_id": self.source,
            "members": list(self.members),
            "explicit": self.explicit,
            "trees": trees,
        }


class AsyncGroups:
    """The groups of a lab: `lab.groups`. A group is named by its number or its label."""

    def __init__(self, lab: AsyncLab) -> None:
        self._lab = lab

    async def list(self) -> Sequence[Group]:
        """Return all groups, in order of their numbers."""
        return [_group(each) for each in await self._request(GetGroups())]

    async def get(self, which: int | str) -> Group:
        """Return a group.

        Raises:
            UsageError: There is none of that number or name (`group.unknown`).
        """
        groups = await self.list()
        for group in groups:
            if str(which) in (str(group.id), group.label):
                return group
        names = ", ".join(f"{group.id} ({group.label})" for group in groups[:12])
        raise UsageError(
            f"lab {self._lab.name} has no group `{which}`",
            id="group.unknown",
            found=str(which),
            hint=f"its groups are {names}" if names else "`nm group create` makes one",
        )

    async def create(self, label: str, source: int | str, members: Sequence[int | str] = ()) -> Group:
        """Create a group with a source and members; one that is there already gains the members.

        Raises:
            UsageError: There is no such node.
            PeerError: Another node has a group of that name, or it is no name (`group.label-taken`).
        """
        node = self._lab.node(source).id
        return _group(await self._request(AddGroup(label, node, self._nodes(members))))

    async def delete(self, which: int | str) -> Group:
        """Delete a group with its members and trees; return what it was."""
        return _group(await self._request(DeleteGroup((await self.get(which)).id)))

    async def join(self, which: int | str, nodes: Sequence[int | str]) -> Group:
        """Make nodes members of a group."""
        return await self._change_members(which, nodes, joined=True)

    async def leave(self, which: int | str, nodes: Sequence[int | str]) -> Group:
        """Make nodes members no more."""
        return await self._change_members(which, nodes, joined=False)

    async def set_trees(self, which: int | str, trees: Sequence[GroupTree]) -> Group:
        """Give a group its trees; they stay as they are when members and links change.

        Raises:
            PeerError: One of them is no tree from the source to all members over links (`tree.invalid`), or
                has a weight that is not positive (`tree.weight`); none is changed.
        """
        sent = tuple(Tree(tree.tree_id, tree.edges, tree.weight) for tree in trees)
        return _group(await self._request(SetGroupTrees((await self.get(which)).id, sent)))

    async def compute_tree(self, which: int | str, receivers: Sequence[int | str] = ()) -> Group:
        """Set the tree of shortest paths to receivers, the members unless given, as it is now."""
        number, nodes = (await self.get(which)).id, self._nodes(receivers)
        return _group(await self._request(SetGroupTrees(number, compute=True, receivers=nodes)))

    async def reset_trees(self, which: int | str) -> Group:
        """Let the controller compute the tree, again with every change of members and links."""
        return await self.set_trees(which, ())

    async def _change_members(self, which: int | str, nodes: Sequence[int | str], *, joined: bool) -> Group:
        number, chosen = (await self.get(which)).id, self._nodes(nodes)
        return _group(await self._request(ChangeMembers(number, chosen, joined)))

    def _nodes(self, words: Sequence[int | str]) -> tuple[int, ...]:
        return tuple(self._lab.node(word).id for word in words)

    async def _request(self, message: Message) -> Any:
        async with operator(LabDirectory(self._lab.directory), self._lab.note) as connection:
            reply = await connection.connection.request(message, within=CHANGE_S)
            return getattr(reply, "value", None)


def _group(read: dict[str, Any]) -> Group:
    trees = tuple(
        GroupTree(tree["tree_id"], tuple((a, b) for a, b in tree["edges"]), tree["weight"])
        for tree in read["trees"]
    )
    return Group(
        read["group_id"],
        read["label"],
        read["group_ip"],
        read["src_node_id"],
        tuple(read["members"]),
        read["explicit"],
        trees,
    )
