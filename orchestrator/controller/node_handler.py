"""Handle messages from dataplanes: registration, link states, groups and measurements."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from orchestrator.controller import shards
from orchestrator.controller.core import Core, Session
from orchestrator.controller.errors import (
    GroupNotStored,
    GroupUnknown,
    NodeStopped,
    TreeForbidden,
    TreeInvalid,
)
from orchestrator.controller.group_changes import (
    change_member,
    computed_tree,
    create_group,
    set_trees,
    tell_member,
)
from orchestrator.controller.groups import Group, TreeSpec
from orchestrator.controller.registry import Node, NodeStates, Wanted
from orchestrator.protocol import Frame, Message, ProtocolError, Refused
from orchestrator.protocol import messages as m
from orchestrator.store import NodeRow

__all__ = ["RECONNECT_GRACE", "NodeHandler", "node_row"]

RECONNECT_GRACE = 0.5
"""Seconds that a node whose connection broke has to come back before it counts as gone."""

MAX_WAIT_MS = 60_000
"""How long a request may wait for a group that does not exist yet."""

STORE_LIMIT = 25.0
"""Seconds that Postgres has to take a change of a group before the node gets an error: less than
the 30 s that a node waits for an answer, so that it gets the reason."""

MAX_DEFERRED = 10_000
"""Requests that may wait for groups."""

MAX_REASON = 300
"""Characters of a node's sentence about a link; it is shown in a line of `nm status`."""

OWN_EVENTS = ("agent.", "controller.", "group.", "lab.", "link.", "node.", "run.", "sql.", "store.")
"""How the names of the controller's own events begin: no node may put words into its mouth."""


_WARNINGS = frozenset({"device.lost", "link.refused", "node.engine_restarted"})
"""Events of nodes that are logged as warnings."""


@dataclass(slots=True)
class _DeferredRequest:
    """A request that waits until its group exists."""

    session: Session
    frame: Frame
    timer: asyncio.TimerHandle


class NodeHandler:
    """Handles messages from dataplanes.

    Attributes:
        handlers: What handles them, by type; those about flows are added.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._deferred: dict[int, list[_DeferredRequest]] = {}
        self._timers: set[asyncio.TimerHandle] = set()
        core.on_group_created.append(self._created)
        self.handlers: dict[type[Message], Callable[[Session, Node, Frame, Any], None]] = {
            m.LinkState: self._link_state,
            m.NodeTopologyReady: self._reported_ready,
            m.CreateGroup: self._create_group,
            m.JoinGroup: self._join_group,
            m.LeaveGroup: self._leave_group,
            m.SetGroupRoutes: self._set_group_routes,
            m.SetGroupRoutesMulti: self._set_group_routes_multi,
            m.ComputeGroupRoutes: self._compute_group_routes,
            m.NodeEvent: self._node_event,
            m.LinkMeasurements: self._measured,
            m.NodeSample: self._measured,
        }

    def take(self, session: Session, frame: Frame) -> None:
        """Handle a message.

        Raises:
            ProtocolError: It cannot be carried out.
        """
        message = frame.message
        if isinstance(message, m.StartUp):
            self._start_up(session, frame, message)
            return
        if isinstance(message, m.Goodbye):
            self._goodbye(session, frame, message)
            return
        handler = self.handlers.get(type(message))
        if handler is None:
            return  # an Ack or Error for a request that is not waited for any more
        node = self._core.lab.registry.node(frame.node)
        if node.peer is not session:
            text = f"node {frame.node} has not registered on this connection"
            raise ProtocolError(text, id="node.unregistered", hint="send StartUp first")
        handler(session, node, frame, message)

    def lost(self, session: Session) -> None:
        """Handle the end of a connection; its nodes may reconnect within a grace time."""
        nodes = self._core.lab.disconnect(session)
        if not nodes:
            return
        self._gone([node for node in nodes if node.wanted is Wanted.STOPPED], NodeStates.STOPPED, "")
        self._later(RECONNECT_GRACE, lambda: self.mark_unreachable(nodes))
        for requests in self._deferred.values():
            requests[:] = [each for each in requests if each.session is not session]

    def mark_unreachable(self, nodes: list[Node]) -> None:
        """Mark nodes that are still disconnected as unreachable."""
        gone = [node for node in nodes if node.peer is None and node.expected_back]
        self._gone(gone, NodeStates.UNREACHABLE, "its connection ended")

    def close(self) -> None:
        """Cancel all timers."""
        for timer in self._timers:
            timer.cancel()

    # Registration.

    def _start_up(self, session: Session, frame: Frame, hello: m.StartUp) -> None:
        core = self._core
        if core.lab.registry.node(frame.node).wanted is Wanted.STOPPED:
            text = f"node {frame.node} is stopped by request"
            raise NodeStopped(text, hint=f"`nm node start {frame.node}`")
        old = core.lab.registry.node(frame.node).peer
        alive = isinstance(old, Session) and old.alive
        node = core.lab.register(frame.node, hello, session, peer_alive=alive)
        core.retries.forget(node.id)
        if isinstance(old, Session) and old is not session:
            old.nodes.discard(node.id)
        if not session.nodes:
            session.directory = {entry.group_id: entry for entry in core.lab.directory()}
        session.nodes.add(node.id)
        session.new_nodes = True
        session.connection.ack(frame, {"ready": core.lab.readiness.passed})
        session.connection.send_nowait(self._settings_of(node), node=node.id)
        directory = core.lab.full_directory()
        if hello.have.groups != directory.version:
            core.command(session, node, directory)
        for group in core.lab.groups:
            if node.id in group.members:  # a new process is told of its memberships, as of all else
                session.connection.send_nowait(m.MemberChanged(group.id, node.id, True), node=node.id)
        core.store.lab.save_nodes([node_row(node)])
        core.node_registered(node)
        name = "node.returned" if core.lab.readiness.passed else "node.registered"
        facts = {"address": node.private_addr, "process": node.process}
        core.events.add(name, node.id, facts, level="debug")
        core.touch()

    def _settings_of(self, node: Node) -> m.NodeSettings:
        settings = self._core.settings
        return m.NodeSettings(
            node_id=node.id,
            net_mask=settings.net_mask,
            virtual_base_addr=settings.base_addr,
            user_space_base_addr=settings.user_space_base_addr,
            external_base_addr=settings.external_base_addr,
            multicast_pool_base=settings.multicast_pool_base,
            multicast_pool_mask=settings.multicast_pool_mask,
            max_server_port=settings.max_server_port,
            protocol=settings.protocol,
            scheduler_type=settings.scheduler_type,
            seed=settings.seed % 2**64,
            node_spec=m.NodeSpec(node.id, node.operating_mode),
            metrics_ms=settings.metrics_interval_ms,
        )

    def _goodbye(self, session: Session, frame: Frame, message: m.Goodbye) -> None:
        leaving = {frame.node} if frame.node else set(session.nodes)
        leaving &= session.nodes
        session.nodes -= leaving
        nodes = [self._core.lab.leave(node_id) for node_id in sorted(leaving)]
        self._gone(nodes, NodeStates.STOPPED, message.reason or "it said goodbye")
        session.connection.ack(frame)

    def _gone(self, nodes: list[Node], state: NodeStates, reason: str) -> None:
        core = self._core
        changed: dict[NodeStates, list[int]] = {}
        for node in nodes:
            core.lab.problems.pop(shards.about(node.id), None)
            if core.lab.mark_unreachable(node, state):
                if node.wanted is not Wanted.STOPPED:  # the request was the event
                    changed.setdefault(node.state, []).append(node.id)
                core.node_changed(node)
        for became, ids in changed.items():
            level = "warning" if became is NodeStates.UNREACHABLE else "info"
            core.events.add_many(f"node.{became.value}", ids, {"reason": reason}, level=level)
        core.touch()

    def _link_state(self, session: Session, node: Node, frame: Frame, message: m.LinkState) -> None:
        reason = message.reason[:MAX_REASON]
        where = (node.id, message.remote_node_id)
        changed = self._core.lab.link_state(*where, message.up, message.kind, reason)
        if changed and self._core.lab.readiness.passed:
            name = "link.up" if message.up else "link.down"
            facts = {"remote": message.remote_node_id, "reason": reason, "kind": message.kind[:20]}
            self._core.events.add(name, node.id, facts, level="debug")
        session.connection.ack(frame)
        self._core.touch()

    def _reported_ready(
        self, session: Session, node: Node, frame: Frame, message: m.NodeTopologyReady
    ) -> None:
        self._core.lab.reported_ready(node.id)
        session.connection.ack(frame)
        self._core.touch()

    # Groups.

    def _create_group(self, session: Session, node: Node, frame: Frame, message: m.CreateGroup) -> None:
        core = self._core
        group, new = create_group(core, message.label, node.id)
        entry = (group.id, group.ip, group.source, group.label)
        names = ("group_id", "group_ip", "src_node_id", "label")
        core.pump()  # the directory goes out before the answer
        self._ack_stored(session, frame, group.id, dict(zip(names, entry, strict=True)))
        created = m.GroupCreated(*entry)
        core.when_stored(lambda: session.connection.send_nowait(created, node=node.id))
        if new:
            core.group_created(group.id)

    def _created(self, group_id: int) -> None:
        """Handle the requests that have waited for a group."""
        for deferred in self._deferred.pop(group_id, []):
            deferred.timer.cancel()
            self._again(deferred)

    def _join_group(self, session: Session, node: Node, frame: Frame, message: m.JoinGroup) -> None:
        if self._defer(session, frame, message.group_id, message.wait_ms):
            return
        self._membership(session, node, frame, message.group_id, joined=True)

    def _leave_group(self, session: Session, node: Node, frame: Frame, message: m.LeaveGroup) -> None:
        self._membership(session, node, frame, message.group_id, joined=False)

    def _membership(self, session: Session, node: Node, frame: Frame, group_id: int, *, joined: bool) -> None:
        core = self._core
        change_member(core, group_id, node.id, joined=joined)
        core.touch()
        self._ack_stored(session, frame, group_id)
        group = core.lab.groups.group(group_id)
        core.when_stored(lambda: tell_member(core, group, node.id, joined=joined))

    def _ack_stored(self, session: Session, frame: Frame, group_id: int, value: Any = None) -> None:
        """Acknowledge a change of a group once it is in Postgres, so that no crash undoes it."""
        ack = self._core.ack_stored(session, frame, value)
        if frame.id:
            text = f"Postgres has not taken the change of group {group_id} in {STORE_LIMIT:g} s"
            hint = "it is kept when Postgres is back, and lost if the controller ends before"
            ack.expire(STORE_LIMIT, GroupNotStored(text, hint=hint))

    def _set_group_routes(
        self, session: Session, node: Node, frame: Frame, message: m.SetGroupRoutes
    ) -> None:
        if not self._defer(session, frame, message.group_id, message.wait_ms):
            self._install(session, frame, message.group_id, [TreeSpec(0, message.edges)])

    def _set_group_routes_multi(
        self, session: Session, node: Node, frame: Frame, message: m.SetGroupRoutesMulti
    ) -> None:
        if not self._defer(session, frame, message.group_id, message.wait_ms):
            trees = [TreeSpec(tree.tree_id, tree.edges, tree.weight) for tree in message.trees]
            self._install(session, frame, message.group_id, trees)

    def _compute_group_routes(
        self, session: Session, node: Node, frame: Frame, message: m.ComputeGroupRoutes
    ) -> None:
        if message.kind != "shortest_path":
            text = f"there is no tree of the kind `{message.kind[:40]}`"
            raise TreeInvalid(
                text, id="tree.kind", found=message.kind[:40], hint="the kind is `shortest_path`"
            )
        self._check_may_plan(node.id, self._core.lab.groups.group(message.group_id))
        tree = computed_tree(self._core, message.group_id, message.receivers)
        value = [list(edge) for edge in tree.edges]
        self._install(session, frame, message.group_id, [tree], value)

    def _install(
        self, session: Session, frame: Frame, group_id: int, trees: list[TreeSpec], value: Any = None
    ) -> None:
        core = self._core
        self._check_may_plan(frame.node, core.lab.groups.group(group_id))
        set_trees(core, group_id, trees, frame.node)
        core.touch()
        self._ack_stored(session, frame, group_id, value)

    def _check_may_plan(self, node: int, group: Group) -> None:
        if node != group.source and node not in group.members:
            text = f"node {node} is neither the source nor a member of the group `{group.label}`"
            raise TreeForbidden(text, hint=f"node {group.source}, its source, may set its trees")

    # Waiting for groups.

    def _defer(self, session: Session, frame: Frame, group_id: int, wait_ms: int) -> bool:
        """Defer a request if its group does not exist yet and the request may wait."""
        if group_id in self._core.lab.groups or wait_ms == 0:
            return False
        requests = self._deferred.setdefault(group_id, [])
        if sum(map(len, self._deferred.values())) >= MAX_DEFERRED:
            return False
        deferred: list[_DeferredRequest] = []
        wait = min(wait_ms, MAX_WAIT_MS) / 1000
        timer = self._later(wait, lambda: self._expire(group_id, deferred[0]))
        deferred.append(_DeferredRequest(session, frame, timer))
        requests.append(deferred[0])
        return True

    def _again(self, deferred: _DeferredRequest) -> None:
        try:
            self.take(deferred.session, deferred.frame)
        except ProtocolError as error:
            deferred.session.connection.refuse(deferred.frame, error)

    def _expire(self, group_id: int, deferred: _DeferredRequest) -> None:
        requests = self._deferred.get(group_id, [])
        if deferred in requests:
            requests.remove(deferred)
            error = GroupUnknown(f"there is no group {group_id}", hint="its source did not create it in time")
            deferred.session.connection.refuse(deferred.frame, error)

    def _later(self, seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        def fire() -> None:
            self._timers.discard(timer)
            call()

        timer = asyncio.get_running_loop().call_later(seconds, fire)
        self._timers.add(timer)
        return timer

    # Measurements.

    def _node_event(self, session: Session, node: Node, frame: Frame, message: m.NodeEvent) -> None:
        name = message.name[:100] or "event"
        if name.startswith(OWN_EVENTS) and name not in _WARNINGS:
            raise Refused(f"the event `{name}` is the controller's to tell", found=name)
        level = "warning" if name in _WARNINGS or name == shards.STALLED else "info"
        if name == shards.STALLED:
            self._core.lab.problems[shards.about(node.id)] = shards.sentence(node.id, message.detail)
        elif name == shards.MOVES:
            self._core.lab.problems.pop(shards.about(node.id), None)
        self._core.events.add(name, node.id, message.detail, level=level)
        session.connection.ack(frame)

    def _measured(
        self, session: Session, node: Node, frame: Frame, message: m.LinkMeasurements | m.NodeSample
    ) -> None:
        for call in self._core.on_measured:
            call(node.id, message)


def node_row(node: Node) -> NodeRow:
    """Return a node as the store keeps it."""
    return NodeRow(
        node.id,
        node.name,
        dict(node.labels),
        node.external,
        node.state.value,
        node.private_name,
        node.private_addr,
        node.public_addr,
        node.process,
        node.mtu,
        node.wanted.value,
    )
