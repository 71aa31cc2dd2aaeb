"""Change links on request: what they do, and whether they are down; single links, and partitions of the lab.

A link that is down in both directions is removed at both nodes at once; of one that is down in one direction,
all packets that way are lost. Routes by shortest path avoid both, and so do flows whose pair has another
explicit route. A pair's only explicit route stays as it was set, as trees do, and its packets are lost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

from orchestrator.controller import link_states
from orchestrator.controller.core import Core, Session
from orchestrator.controller.errors import PartitionInvalid
from orchestrator.controller.link_changes import (
    MAX_CAUSE,
    put_in_force,
    set_link_spec,
    starts_of,
    unnoticed,
)
from orchestrator.controller.registry import Link, Registry
from orchestrator.protocol import Frame, Message
from orchestrator.protocol import messages as m

__all__ = ["Faults", "links_between"]

MAX_NAMED = 200
"""Links that an event or an answer names; where there are more, it has their number as well. The facts of an
event that are larger than `events.MAX_FACTS_BYTES` would be left out as a whole."""

MAX_GROUPS = 1000
"""Characters that an event keeps of the groups of a partition."""


Applied = Callable[[], None]
"""Called when the nodes have applied a change, before it is stored."""


class Faults:
    """Makes changes of links, for operators and for timelines.

    Attributes:
        handlers: What answers the requests of operators, by type.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._changes: dict[type[Message], Callable[[Any, Applied], Awaitable[dict[str, Any]]]] = {
            m.SetLinkSpec: self._set_link_spec,
            m.SetLinkState: self._set_link_state,
            m.ResetLinks: self._reset_links,
            m.Partition: self._partition,
            m.Heal: self._heal,
        }
        self.handlers = dict.fromkeys(self._changes, self._handle)

    async def change(self, message: Message, applied: Applied = unnoticed) -> dict[str, Any]:
        """Make the change that a request asks for; return what the operator is answered.

        Raises:
            ProtocolError: It cannot be made, or was not made in time.
        """
        return await self._changes[type(message)](message, applied)

    async def _handle(self, session: Session, frame: Frame, message: Message) -> None:
        session.connection.ack(frame, await self.change(message))

    async def _set_link_spec(self, message: m.SetLinkSpec, applied: Applied) -> dict[str, Any]:
        return await set_link_spec(self._core, message, applied)

    async def _set_link_state(self, message: m.SetLinkState, applied: Applied) -> dict[str, Any]:
        core, lab = self._core, self._core.lab
        link = lab.registry.link(message.a, message.b)
        changed = [lab.take_down(link, start, down=message.down) for start in starts_of(message)]
        if any(changed):
            name = "link.taken-down" if message.down else "link.brought-up"
            facts = {"a": link.a, "b": link.b, "down": link.down, "partitioned": link.partitioned}
            core.events.add(name, 0, {**facts, "cause": message.cause[:MAX_CAUSE]})
        await put_in_force(core, [link], state=True, applied=applied)
        state = link_states.state_of(lab.registry, link)
        reason = link_states.reason_of(lab.registry, link) if state == "down" else link.down_reason
        return {"state": state, "down": link.down, "reason": reason}

    async def _reset_links(self, message: m.ResetLinks, applied: Applied) -> dict[str, Any]:
        core, lab = self._core, self._core.lab
        changed = [link for link in lab.registry.links.values() if link.changed]
        for link in changed:
            for end in (link.a, link.b):
                lab.set_link(link.a, link.b, None, to_end=end)
        ends = _ends(changed)
        if changed:
            facts = {**_named(links=ends), "count": len(ends), "cause": message.cause[:MAX_CAUSE]}
            core.events.add("lab.links-reset", 0, facts)
        await put_in_force(core, changed, state=True, applied=applied)
        return _named(links=ends)

    async def _partition(self, message: m.Partition, applied: Applied) -> dict[str, Any]:
        registry = self._core.lab.registry
        links_between(message.groups, registry)  # they make a partition
        facts = {
            "groups": _groups_text(message.groups),
            "group_count": len(message.groups),
            "node_count": sum(map(len, message.groups)),
        }
        value = await self._cut(message.groups, "lab.partitioned", facts, message.cause, applied)
        connected = _still_connected(message.groups, registry)
        return {**value, **_named(connected=connected)}

    async def _heal(self, message: m.Heal, applied: Applied) -> dict[str, Any]:
        value = await self._cut((), "lab.healed", {}, message.cause, applied)
        return {**value, "connected": []}

    async def _cut(
        self,
        groups: Sequence[Sequence[int]],
        name: str,
        facts: dict[str, object],
        cause: str,
        applied: Applied,
    ) -> dict[str, Any]:
        core = self._core
        changed = core.lab.set_partition(groups)
        core.store.lab.set_partition(core.settings.lab, groups)
        down = _ends([link for link in changed if link.partitioned])
        up = _ends([link for link in changed if link.down != "both"])
        if changed:
            named = _named(down=down, up=up)
            core.events.add(name, 0, {**facts, **named, "count": len(changed), "cause": cause[:MAX_CAUSE]})
        await put_in_force(core, changed, state=True, applied=applied)
        return _named(down=down, up=up)


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


def _named(**lists: list[list[int]]) -> dict[str, Any]:
    """Return lists, cut to `MAX_NAMED` entries in all; one that was cut has its length at `NAME_count`."""
    found: dict[str, Any] = {}
    left = MAX_NAMED
    for name, entries in lists.items():
        found[name] = entries[:left]
        if len(entries) > left:
            found[f"{name}_count"] = len(entries)
        left = max(0, left - len(entries))
    return found


def _groups_text(groups: Sequence[Sequence[int]]) -> str:
    text = "|".join(",".join(map(str, group)) for group in groups)
    return text if len(text) <= MAX_GROUPS else text[:MAX_GROUPS] + "…"


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
