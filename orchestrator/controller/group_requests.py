"""Handle requests of operators about groups."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

from orchestrator.controller.core import Core, Session
from orchestrator.controller.errors import GroupNotStored, TreeInvalid
from orchestrator.controller.group_changes import (
    change_member,
    computed_tree,
    create_group,
    delete_group,
    details,
    set_trees,
    tell_member,
)
from orchestrator.controller.groups import Group, TreeSpec
from orchestrator.controller.link_changes import MAX_CAUSE, STORE_LIMIT
from orchestrator.protocol import Frame, Message
from orchestrator.protocol import messages as m

__all__ = ["GroupRequests"]


class GroupRequests:
    """Handles requests about groups: each is in force and stored when it is acknowledged."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.handlers: dict[type[Message], Callable[[Session, Frame, Any], Awaitable[None]]] = {
            m.GetGroups: self._get,
            m.AddGroup: self._add,
            m.DeleteGroup: self._delete,
            m.ChangeMembers: self._change_members,
            m.SetGroupTrees: self._set_trees,
        }

    async def _get(self, session: Session, frame: Frame, message: m.GetGroups) -> None:
        groups = sorted(self._core.lab.groups, key=lambda group: group.id)
        session.connection.ack(frame, [details(group) for group in groups])

    async def _add(self, session: Session, frame: Frame, message: m.AddGroup) -> None:
        core, cause = self._core, message.cause[:MAX_CAUSE]
        for node_id in (message.src_node_id, *message.members):
            core.lab.registry.node(node_id)  # refuses a number that no node has
        group, new = create_group(core, message.label, message.src_node_id, cause)
        core.pump()
        if new:
            core.group_created(group.id)
        self._join(group, message.members, joined=True, cause=cause)
        await self._stored(group.id)
        session.connection.ack(frame, details(group))

    async def _delete(self, session: Session, frame: Frame, message: m.DeleteGroup) -> None:
        core = self._core
        group = core.lab.groups.group(message.group_id)
        delete_group(core, message.group_id, message.cause[:MAX_CAUSE])
        core.pump()
        await self._stored(group.id)
        session.connection.ack(frame, details(group))

    async def _change_members(self, session: Session, frame: Frame, message: m.ChangeMembers) -> None:
        core = self._core
        group = core.lab.groups.group(message.group_id)
        for node_id in message.nodes:
            core.lab.registry.node(node_id)
        self._join(group, message.nodes, joined=message.joined, cause=message.cause[:MAX_CAUSE])
        await self._stored(group.id)
        session.connection.ack(frame, details(group))

    async def _set_trees(self, session: Session, frame: Frame, message: m.SetGroupTrees) -> None:
        core = self._core
        trees = [TreeSpec(tree.tree_id, tree.edges, tree.weight) for tree in message.trees]
        if message.compute:
            trees = [computed_tree(core, message.group_id, message.receivers)]
        for tree in trees:
            if tree.weight is not None and not (math.isfinite(tree.weight) and tree.weight > 0):
                raise TreeInvalid(
                    f"the weight of tree {tree.tree_id} is {tree.weight:g}",
                    id="tree.weight",
                    found=f"{tree.weight:g}",
                    expected="a number greater than 0",
                )
        group = set_trees(core, message.group_id, trees, cause=message.cause[:MAX_CAUSE])
        core.pump()
        await self._stored(group.id)
        session.connection.ack(frame, details(group))

    def _join(self, group: Group, nodes: tuple[int, ...], *, joined: bool, cause: str) -> None:
        core = self._core
        changed = [
            node_id
            for node_id in dict.fromkeys(nodes)
            if change_member(core, group.id, node_id, joined=joined, cause=cause)
        ]
        core.pump()
        for node_id in changed:
            tell_member(core, group, node_id, joined=joined)

    async def _stored(self, group_id: int) -> None:
        """Wait until nodes have their trees and Postgres has the change.

        Raises:
            GroupNotStored: Postgres has not taken it in time.
        """
        core = self._core
        sent = [node_id for node_id, count in core.unanswered.items() if count > 0]
        # A node that hangs must not make the change of a group fail: it is told again when it answers.
        await core.wait_until(lambda: not any(core.unanswered[node_id] for node_id in sent), 1.0)
        if not await core.store.stored(STORE_LIMIT):
            raise GroupNotStored(
                f"group {group_id} is changed, but Postgres has not taken it in {STORE_LIMIT:g} s",
                hint="it is kept when Postgres is back, and lost if the controller ends before",
            )
