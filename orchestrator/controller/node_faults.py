"""Handle requests of operators to stop, start, pause and resume nodes.

The controller records what each node shall be, removes the links of those that shall be stopped, and waits
for them no longer; the operator then acts on their processes. What is recorded is stored, so that it holds
after a restart of the controller as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from orchestrator.controller.core import Core, Session
from orchestrator.controller.errors import NodeFaultInvalid, NodeNotReady, NodeNotStored, RunInvalid
from orchestrator.controller.link_changes import MAX_CAUSE, STORE_LIMIT
from orchestrator.controller.node_actions import NodeActions
from orchestrator.controller.registry import Node, NodeStates, Wanted
from orchestrator.protocol import Frame, Message
from orchestrator.protocol import messages as m

__all__ = ["NodeFaults", "require_running"]

ACT_LIMIT = 15.0
"""Seconds that nodes may take to be ready or gone after their processes were acted on."""

_ACTIONS = {
    "kill": (Wanted.STOPPED, "node.killed"),
    "stop": (Wanted.STOPPED, "node.stopped"),
    "start": (Wanted.RUNNING, "node.started"),
    "pause": (Wanted.PAUSED, "node.paused"),
    "unpause": (Wanted.RUNNING, "node.unpaused"),
}
"""What a node shall be after each action, and the event that records it."""


class NodeFaults:
    """Handles requests about what nodes shall be."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._actions = NodeActions(core.settings)
        self.handlers: dict[type[Message], Callable[[Session, Frame, Any], Awaitable[None]]] = {
            m.NodeFault: self._node_fault,
            m.WaitNodes: self._wait_nodes,
        }

    async def _node_fault(self, session: Session, frame: Frame, message: m.NodeFault) -> None:
        nodes = self._checked(message)
        changed = await self.change(message, nodes)
        ids = [node.id for node in changed]
        already = [node.id for node in nodes if node not in changed]
        session.connection.ack(frame, {"changed": ids, "already": already})

    def check(self, message: m.NodeFault) -> None:
        """Check a request without carrying it out.

        Raises:
            NodeUnknown: There is no node of a number.
            NodeFaultInvalid: It cannot be done.
        """
        nodes = self._checked(message)
        if message.act:
            self._actions.require(message.do, [node.id for node in nodes])

    async def change(self, message: m.NodeFault, nodes: Sequence[Node] | None = None) -> list[Node]:
        """Carry a request out; return the nodes for which it is a change.

        Raises:
            NodeUnknown: There is no node of a number.
            NodeFaultInvalid: It cannot be done; nothing is changed.
            NodeNotStored: Postgres has not taken it.
            NodeNotActedOn: It is not done to their processes; the message says whether it is recorded.
            NodeNotReady: They are not so in time.
        """
        core = self._core
        nodes = self._checked(message) if nodes is None else nodes
        if not message.act:
            return await self._record(message, nodes)
        numbers = [node.id for node in nodes]
        self._actions.require(message.do, numbers)
        async with self._actions.held(message.do, numbers) as act:
            for node in nodes:
                _require_possible(message.do, node)  # while the lab was not free it may have changed
            changed = await self._record(message, nodes)
            await act()
        if not await core.wait_until(lambda: all(_is_as_wanted(node) for node in nodes), ACT_LIMIT):
            late = [node for node in nodes if not _is_as_wanted(node)]
            raise NodeNotReady(self._why(late, ACT_LIMIT))
        return changed

    async def _record(self, message: m.NodeFault, nodes: Sequence[Node]) -> list[Node]:
        """Record what nodes shall be, here and in Postgres; return those for which it is a change."""
        core = self._core
        wanted, event = _ACTIONS[message.do]
        changed = [node for node in nodes if core.lab.set_wanted(node.id, wanted)]
        for node in changed:
            core.events.add(event, node.id, {"cause": message.cause[:MAX_CAUSE]})
            if wanted is Wanted.STOPPED:
                core.node_stopped(node)
        core.store.lab.nodes_wanted([(node.id, node.wanted.value) for node in changed])
        core.pump()
        if changed and not await core.store.stored(STORE_LIMIT):
            raise NodeNotStored(
                f"what nodes shall be is not stored: Postgres has not taken it in {STORE_LIMIT:g} s",
                hint="it is kept when Postgres is back, and lost if the controller ends before"
                + ("; no process was touched: the same request again does that" if message.act else ""),
            )
        return changed

    async def _wait_nodes(self, session: Session, frame: Frame, message: m.WaitNodes) -> None:
        core = self._core
        nodes = [core.lab.registry.node(node_id) for node_id in dict.fromkeys(message.nodes)]

        def done() -> bool:
            return all(_is_as_wanted(node) for node in nodes)

        if not await core.wait_until(done, message.timeout_ms / 1000):
            late = [node for node in nodes if not _is_as_wanted(node)]
            raise NodeNotReady(self._why(late, message.timeout_ms / 1000))
        session.connection.ack(frame)

    def _checked(self, message: m.NodeFault) -> list[Node]:
        """Return the nodes of a request.

        Raises:
            NodeUnknown: There is no node of a number.
            NodeFaultInvalid: There is none, or one of them cannot be asked for that.
        """
        if message.do not in _ACTIONS:
            text = f"`{message.do[:20]}` is nothing that is done to a node"
            raise NodeFaultInvalid(text, hint=f"one of {', '.join(_ACTIONS)}")
        nodes = [self._core.lab.registry.node(node_id) for node_id in dict.fromkeys(message.nodes)]
        if not nodes:
            raise NodeFaultInvalid("no node is named")
        for node in nodes:
            if node.external:
                text = f"node {node.id} is external: its program is not run by nm"
                raise NodeFaultInvalid(text, id="node.external", hint="end or start that program yourself")
            _require_possible(message.do, node)
        return nodes

    def _why(self, late: Sequence[Node], limit_s: float) -> str:
        """Return which nodes are not yet as they shall be, and why."""
        readiness = self._core.lab.readiness
        node, *others = late
        if node.wanted is Wanted.STOPPED:
            why = "it is still connected"
        else:
            why = readiness.missing(node) or "a moment"
        more = f" (and {len(others)} more nodes)" if others else ""
        state = "gone" if node.wanted is Wanted.STOPPED else "ready"
        return f"node {node.id} is not {state} after {limit_s:g} s: {why}{more}"


def require_running(nodes: Iterable[Node], roles: Mapping[str, Sequence[int]]) -> None:
    """Check that no node with a role is stopped or paused by request, before a run is started.

    Raises:
        RunInvalid: One is (`node.stopped`, `node.paused`).
    """
    role_of = {node: role for role, numbers in roles.items() for node in numbers}
    for node in nodes:
        if node.id in role_of and node.wanted is not Wanted.RUNNING:
            back = "start" if node.wanted is Wanted.STOPPED else "unpause"
            raise RunInvalid(
                f"node {node.id}, which plays the role {role_of[node.id]}, is {node.wanted.value} by request",
                id=f"node.{node.wanted.value}",
                hint=f"`nm node {back} {node.id}`",
            )


def _is_as_wanted(node: Node) -> bool:
    if node.wanted is Wanted.STOPPED:
        return node.peer is None
    ready = node.peer is not None and node.state is NodeStates.READY
    return node.wanted is Wanted.PAUSED or ready


def _require_possible(do: str, node: Node) -> None:
    """Check that an action goes with what a node is by request.

    Raises:
        NodeFaultInvalid: It does not.
    """
    number = node.id
    match do, node.wanted:
        case "start", Wanted.PAUSED:
            hint = f"`nm node unpause {number}`"
            raise NodeFaultInvalid(f"node {number} is paused, not stopped", id="node.paused", hint=hint)
        case "pause" | "unpause", Wanted.STOPPED:
            hint = f"`nm node start {number}`"
            raise NodeFaultInvalid(f"node {number} is stopped, not paused", id="node.stopped", hint=hint)
