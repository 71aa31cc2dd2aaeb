"""Handle requests of operators to take links down and up again: single links, and partitions of the lab.

A link that is down in both directions is removed at both nodes at once; of
one that is down in one direction, all packets that way are lost. Routes by shortest path avoid both; explicit
routes and trees stay as they were set, and their packets are lost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

from orchestrator.controller.core import Core, Session
from orchestrator.controller.errors import PartitionInvalid
from orchestrator.controller.link_changes import put_in_force, starts_of
from orchestrator.controller.registry import Link, Registry
from orchestrator.protocol import Frame, Message
from orchestrator.protocol import messages as m

__all__ = ["Faults", "links_between"]

MAX_NAMED = 1000
"""Links that an event names; it also has their number."""

MAX_CAUSE = 100
"""Characters of a cause that an event keeps."""


class Faults:
    """Handles requests about the states of links."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.handlers: dict[type[Message], Callable[[Session, Frame, Any], Awaitable[None]]] = {
            m.SetLinkState: self._set_link_state,
            m.ResetLinks: self._reset_links,
            m.Partition: self._partition,
            m.Heal: self._heal,
        }

    async def _set_link_state(self, session: Session, frame: Frame, message: m.SetLinkState) -> None:
        core, lab = self._core, self._core.lab
        link = lab.registry.link(message.a, message.b)
        changed = [lab.take_down(link, start, down=message.down) for start in starts_of(message)]
        if any(changed):
            name = "link.taken-down" if message.down else "link.brought-up"
            facts = {"a": link.a, "b": link.b, "down": link.down, "partitioned": link.partitioned}
            core.events.add(name, 0, {**facts, "cause": message.cause[:MAX_CAUSE]})
        await put_in_force(core, [link], state=True)
        value = {"state": lab.link_state_of(link), "down": link.down, "reason": link.down_reason}
        session.connection.ack(frame, value)

    async def _reset_links(self, session: Session, frame: Frame, message: m.ResetLinks) -> None:
        core, lab = self._core, self._core.lab
        changed = [link for link in lab.registry.links.values() if link.changed]
        for link in changed:
            for end in (link.a, link.b):
                lab.set_link(link.a, link.b, None, to_end=end)
        ends = _ends(changed)
        if changed:
            facts = {"links": ends[:MAX_NAMED], "count": len(ends), "cause": message.cause[:MAX_CAUSE]}
            core.events.add("lab.links-reset", 0, facts)
        await put_in_force(core, changed, state=True)
        session.connection.ack(frame, {"links": ends})

    async def _partition(self, session: Session, frame: Frame, message: m.Partition) -> None:
        registry = self._core.lab.registry
        cut = links_between(message.groups, registry)
        value = await self._cut(cut, "lab.partitioned", {"groups": message.groups}, message.cause)
        session.connection.ack(frame, {**value, "connected": _still_connected(message.groups, registry)})

    async def _heal(self, session: Session, frame: Frame, message: m.Heal) -> None:
        value = await self._cut((), "lab.healed", {}, message.cause)
        session.connection.ack(frame, {**value, "connected": []})

    async def _cut(
        self, cut: Collection[Link], name: str, facts: dict[str, object], cause: str
    ) -> dict[str, object]:
        core = self._core
        changed = core.lab.set_partition(cut)
        down = _ends([link for link in changed if link.partitioned])
        up = _ends([link for link in changed if link.down != "both"])
        if changed:
            named = {"down": down[:MAX_NAMED], "up": up[:MAX_NAMED], "count": len(changed)}
            core.events.add(name, 0, {**facts, **named, "cause": cause[:MAX_CAUSE]})
        await put_in_force(core, changed, state=True)
        return {"down": down, "up": up}


def links_between(groups: Sequence[Sequence[int]], registry: Registry) -> list[Link]:
    """Return the links between nodes of different groups.

    Raises:
        NodeUnknown: There is no node of a number.
        PartitionInvalid: There are fewer than two groups, one is empty, or a node is named twice; or no link
            leads from one group to another.
    """
    if len(groups) < 2:
        raise PartitionInvalid("a partition needs two groups of nodes or more", hint="such as `1,2|3,4`")
    group_of: dict[int, int] = {}
    for number, group in enumerate(groups):
        if not group:
            raise PartitionInvalid(f"group {number + 1} of the partition has no nodes")
        for node_id in group:
            registry.node(node_id)
            if node_id in group_of:
                raise PartitionInvalid(
                    f"node {node_id} is named twice",
                    id="partition.twice",
                    hint="a node is in one group at most",
                )
            group_of[node_id] = number
    found = [
        link
        for (a, b), link in registry.links.items()
        if a in group_of and b in group_of and group_of[a] != group_of[b]
    ]
    if not found:
        raise PartitionInvalid(
            "no link leads from one of these groups to another, so that nothing would change",
            id="partition.no-links",
            hint="nodes that are not named keep all their links: name those between the groups as well",
        )
    return found


def _ends(links: Collection[Link]) -> list[list[int]]:
    return [[link.a, link.b] for link in links]


def _still_connected(groups: Sequence[Sequence[int]], registry: Registry) -> list[list[int]]:
    """Return the pairs of groups, by their places, between which a way through other nodes is left."""
    part: dict[int, int] = {}
    for node in registry:
        queue = [node.id] if node.id not in part else []
        while queue:
            here = queue.pop()
            if part.setdefault(here, node.id) == node.id:
                queue.extend(near for near in registry.connected(here) if near not in part)
    parts = [{part[node_id] for node_id in group} for group in groups]
    pairs = [(i, j) for i in range(len(groups)) for j in range(i + 1, len(groups))]
    return [[i, j] for i, j in pairs if parts[i] & parts[j]]
