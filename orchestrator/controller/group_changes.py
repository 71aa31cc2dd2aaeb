"""Change groups: create and delete them, change their members and trees, whoever asks for it.

Nodes ask through the node API, operators by requests; both are validated here. Each function changes the
state of the lab, writes it, and logs it; the caller acknowledges once Postgres has it. Changes by SQL are in
Postgres already, see `sql_changes`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orchestrator.controller.core import Core, Session
from orchestrator.controller.errors import TreeInvalid
from orchestrator.controller.groups import Group, TreeSpec
from orchestrator.protocol import messages as m
from orchestrator.store import GroupRow, TreeRow

__all__ = [
    "change_member",
    "computed_tree",
    "create_group",
    "delete_group",
    "details",
    "set_trees",
    "tell_member",
]


def create_group(core: Core, label: str, source: int, cause: str = "") -> tuple[Group, bool]:
    """Create a group, or find the one of that name and source; return it, and whether it is new.

    Raises:
        GroupLabelTaken: Another node has a group of that name, or it is no name.
    """
    group, new = core.lab.groups.create(label, source)
    if new:
        core.store.lab.save_group(GroupRow(group.id, group.label, group.source, group.ip))
        facts = {"group": group.id, "label": group.label, "address": group.ip}
        core.events.add("group.created", source, _with(facts, cause))
        core.lab.group_changed(group.id)
    return group, new


def delete_group(core: Core, group_id: int, cause: str = "") -> None:
    """Delete a group with its members and trees.

    Raises:
        GroupUnknown: There is no such group.
    """
    group = core.lab.groups.group(group_id)
    core.lab.groups.drop(group_id)
    core.store.lab.drop_group(group_id)
    core.lab.group_changed(group_id)
    facts = {"group": group_id, "label": group.label}
    core.events.add("group.deleted", group.source, _with(facts, cause))


def change_member(core: Core, group_id: int, node_id: int, *, joined: bool, cause: str = "") -> bool:
    """Make a node a member of a group, or no member any more; return whether that is a change.

    Raises:
        GroupUnknown: There is no such group.
    """
    change = core.lab.groups.join if joined else core.lab.groups.leave
    if not change(group_id, node_id):
        return False
    write = core.store.lab.add_member if joined else core.store.lab.drop_member
    write(group_id, node_id)
    core.lab.group_changed(group_id)
    name = "group.joined" if joined else "group.left"
    core.events.add(name, node_id, _with({"group": group_id}, cause), level="debug")
    return True


def tell_member(core: Core, group: Group, node_id: int, *, joined: bool) -> None:
    """Tell a node, and the source of the group, that the node is a member, or none any more."""
    changed = m.MemberChanged(group.id, node_id, joined)
    for each in dict.fromkeys((node_id, group.source)):
        peer = core.lab.registry.node(each).peer
        if isinstance(peer, Session):
            peer.connection.send_nowait(changed, node=each)


def set_trees(core: Core, group_id: int, trees: Iterable[TreeSpec], node: int = 0, cause: str = "") -> Group:
    """Give a group its trees in place of those it had; with none, they are computed again.

    Args:
        core: The controller.
        group_id: The group.
        trees: Its trees.
        node: The node that asked for it, 0 for none.
        cause: Who else did.

    Raises:
        GroupUnknown: There is no such group.
        TreeInvalid: One of them is no tree to the members; none is changed then.
    """
    group = core.lab.set_trees(group_id, trees)
    rows = [TreeRow(tree.tree_id, tree.edges, tree.weight) for tree in group.trees]
    core.store.lab.set_trees(group_id, rows)
    facts = {"group": group_id, "trees": len(rows)}
    core.events.add("group.routed", node, _with(facts, cause), level="debug")
    return group


def computed_tree(core: Core, group_id: int, receivers: Iterable[int]) -> TreeSpec:
    """Return a tree of shortest paths from a group's source to receivers; to its members if none are named.

    Raises:
        GroupUnknown: There is no such group.
        NodeUnknown: A receiver is no node of the lab.
        TreeInvalid: No path leads to a receiver.
    """
    edges, missed = core.lab.compute_tree(group_id, receivers)
    if missed:
        names = ", ".join(str(node_id) for node_id in missed[:12])
        raise TreeInvalid(f"no path leads to the receivers {names}")
    return TreeSpec(0, edges)


def details(group: Group) -> dict[str, Any]:
    """Return a group as operators are told of it; `explicit` trees were set, the others are computed."""
    return {
        "group_id": group.id,
        "label": group.label,
        "group_ip": group.ip,
        "src_node_id": group.source,
        "members": sorted(group.members),
        "explicit": bool(group.trees),
        "trees": [
            {"tree_id": tree.tree_id, "edges": [list(edge) for edge in tree.edges], "weight": tree.weight}
            for tree in group.in_force
        ],
    }


def _with(facts: dict[str, Any], cause: str) -> dict[str, Any]:
    return {**facts, "cause": cause} if cause else facts
