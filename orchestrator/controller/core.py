"""State shared by the controller's message handlers: the lab, the store, sessions and outgoing batches.

Handlers (for nodes, agents and operators) receive messages and change the lab. They call `touch`, which
schedules one update a few milliseconds later, so that a thousand messages that arrive together lead to one
computation and one batch per connection.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from orchestrator import log
from orchestrator.clock import Clock
from orchestrator.controller import reconcile
from orchestrator.controller.events import EventLog
from orchestrator.controller.lab import Lab
from orchestrator.controller.registry import Node, NodeStates
from orchestrator.controller.retries import Retries
from orchestrator.protocol import Frame, Message, Peer, ProtocolError, Role, batches, encode
from orchestrator.protocol.messages import (
    Ack,
    Error,
    Group,
    InstallGroupDirectory,
    LinkMeasurements,
    NodeSample,
    NodeState,
    TopologyReady,
)
from orchestrator.settings.controller import ControllerSettings
from orchestrator.store import Store
from orchestrator.tasks import spawn
from orchestrator.transport import Connection

__all__ = ["AfterStore", "Core", "Session", "StoredAck"]

_LOG = log.get("orchestrator.controller")

RETRY_DELAY_S = 0.1
"""Seconds until a queue whose task failed is processed again."""

BATCH_DELAY_S = 0.004
"""Seconds in which changes are collected before they are processed."""


@dataclass(eq=False, slots=True)
class Session:
    """An authenticated peer.

    Attributes:
        allowed: The nodes whose tokens it has shown; it may send messages for no other.
        nodes: The nodes that registered on it.
        new_nodes: Some of them have just registered and were not sent the state of the others yet.
        directory: The group directory sent to all of its nodes; None when it has to be sent in full.
    """

    connection: Connection
    peer: Peer
    allowed: set[int] = field(default_factory=set)
    nodes: set[int] = field(default_factory=set)
    new_nodes: bool = False
    directory: dict[int, Group] | None = field(default_factory=dict)

    @property
    def alive(self) -> bool:
        """Whether the connection lasts."""
        return self.connection.ended is None


class AfterStore:
    """Makes calls, in order, each once all earlier writes are in Postgres.

    A call that fails is logged; those behind it are made all the same.

    Args:
        wait: Waits for what was written so far.
        name: For the log.
    """

    def __init__(self, wait: Callable[[], Awaitable[object]], name: str) -> None:
        self._wait = wait
        self._name = name
        self._calls: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def post(self, call: Callable[[], None]) -> None:
        """Schedule a call."""
        self._calls.append(call)
        self._begin()

    def close(self) -> None:
        """Make no more calls."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()

    def _begin(self) -> None:
        if self._task is None and self._calls and not self._closed:
            self._task = spawn(self._run(), name=self._name, failed=self._failed)

    def _failed(self, _: Exception) -> None:
        self._task = None
        asyncio.get_running_loop().call_later(RETRY_DELAY_S, self._begin)

    async def _run(self) -> None:
        while self._calls:
            count = len(self._calls)
            await self._wait()
            batch, self._calls = self._calls[:count], self._calls[count:]
            for call in batch:
                try:
                    call()
                except Exception:
                    _LOG.exception("call after a write failed", task=self._name)
        self._task = None


class StoredAck:
    """An acknowledgement that waits for Postgres, which may refuse what it was for; it answers once."""

    def __init__(self, session: Session, frame: Frame, value: object) -> None:
        self._session = session
        self._frame = frame
        self._value = value
        self._reason: str | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._answered = False

    def refuse(self, reason: str) -> None:
        """Answer with an error instead."""
        self._reason = reason

    def expire(self, within: float, error: ProtocolError) -> None:
        """Answer with an error if Postgres has not taken it in time."""
        self._timer = asyncio.get_running_loop().call_later(within, self._give_up, error)

    def send(self) -> None:
        """Answer, unless that was given up."""
        if self._timer is not None:
            self._timer.cancel()
        if self._answered:
            return
        self._answered = True
        connection = self._session.connection
        if self._reason is None:
            connection.ack(self._frame, self._value)
            return
        text = f"{self._frame.message.type} could not be stored: {self._reason}"
        connection.refuse(self._frame, ProtocolError(text, id="store.refused"))

    def _give_up(self, error: ProtocolError) -> None:
        if not self._answered:
            self._answered = True
            self._session.connection.refuse(self._frame, error)


class Core:
    """Shared by all handlers.

    Args:
        settings: The controller's file.
        lab: The lab.
        store: Postgres.
        events: The lab's log.
        clock: The time.

    Attributes:
        unanswered: How many commands each node was sent and has not answered.
    """

    def __init__(
        self, settings: ControllerSettings, lab: Lab, store: Store, events: EventLog, clock: Clock
    ) -> None:
        self.settings = settings
        self.lab = lab
        self.store = store
        self.events = events
        self.clock = clock
        self.incarnation = 0
        self.sessions: set[Session] = set()
        self.on_registered: list[Callable[[Node], None]] = []
        self.on_stopped: list[Callable[[Node], None]] = []
        self.on_group_created: list[Callable[[int], None]] = []
        self.on_measured: list[Callable[[int, LinkMeasurements | NodeSample], None]] = []
        self.on_run_over: list[Callable[[str], None]] = []
        self.unanswered: Counter[int] = Counter()
        self._pending: asyncio.TimerHandle | None = None
        self._settle_pending: asyncio.Handle | None = None
        self._states: dict[int, str] = {}
        absent = (NodeStates.UNREACHABLE, NodeStates.STOPPED, NodeStates.VACANT)
        self._announced = {node.id: node.state for node in lab.registry if node.state in absent}
        self.retries = Retries(self._resend)
        self._acks = AfterStore(store.stored, "acknowledgements of what is stored")
        # Durations are measured on the monotonic clock: setting the wall clock changes no time limit.
        self._epoch = clock.wall() - clock.monotonic()
        self._state_changes: list[bytes] = []
        self._batch_delay = BATCH_DELAY_S
        self._waiters: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    def now_ms(self) -> int:
        """Return milliseconds since 1970, by the wall clock as it was at the start; never jumps."""
        return round((self._epoch + self.clock.monotonic()) * 1000)

    def node_sessions(self) -> Iterable[Session]:
        """Return the connections that carry nodes."""
        return [session for session in self.sessions if session.peer.role is Role.NODE and session.nodes]

    def problems(self) -> tuple[str, ...]:
        """Return what the controller itself lacks, as sentences."""
        return (*self.store.problems, *self.lab.problems.values())

    def state(self) -> str:
        """Return the lab's state in the word that users see."""
        if not self.lab.readiness.passed:
            return "starting"
        return "ready" if self.lab.readiness.is_settled() else "degraded"

    # Sending changes.

    def command(self, session: Session, node: Node, message: Message, *, to: int | None = None) -> None:
        """Send a command to a node; if the node refuses it, it is sent again until it succeeds.

        Args:
            session: The node's connection.
            node: The node, or one that stands for all of the connection.
            message: The command.
            to: 0 for all nodes of the connection.
        """

        self.unanswered[node.id] += 1

        def replied(reply: Message | None) -> None:
            self.unanswered[node.id] -= 1
            if node.peer is not session or reply is None:
                return
            about = reconcile.about(message)
            if isinstance(reply, Ack):
                self.lab.confirmed(node, message)
                self.retries.done(node.id, about)
            elif isinstance(reply, Error):
                if isinstance(message, InstallGroupDirectory):
                    session.directory = None
                if self.lab.refused(node, message, reply.message):
                    facts = {"message": message.type, "error": reply.error, "reason": reply.message}
                    self.events.add("node.refused", node.id, facts, level="warning")
                self.retries.refused(node.id, about, getattr(message, "version", 0))
            self._settle_soon()

        try:
            session.connection.ask(message, replied, node=node.id if to is None else to)
        except ProtocolError as error:  # too large; the other nodes are still sent theirs
            replied(Error(0, error.id, error.message))

    def touch(self) -> None:
        """Schedule an update of everything that changed."""
        if self._pending is None:
            self._pending = asyncio.get_running_loop().call_later(self._batch_delay, self.pump)

    def pump(self) -> None:
        """Send every node the changes that it lacks, now."""
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None
        began = self.clock.monotonic()
        for node_id, messages in self.lab.flush().items():
            node = self.lab.registry.node(node_id)
            if isinstance(node.peer, Session):
                for message in messages:
                    self.command(node.peer, node, message)
        self._send_directory()
        self._send_absent()
        self._settle_soon()
        # Where an update is expensive, because paths have to be recomputed in a large lab that loses node
        # after node, it is done so rarely that it takes half of the time at most.
        self._batch_delay = max(BATCH_DELAY_S, self.clock.monotonic() - began)

    def broadcast(self, message: Message) -> None:
        """Send a message to every connection, for all of its nodes."""
        data = encode(Frame(message))
        for session in self.node_sessions():
            session.connection.send_encoded(data)

    def node_changed(self, node: Node) -> None:
        """Store the state of a node, and announce it to the others if it changed for them."""
        self._states[node.id] = node.state.value
        self._announce(node)
        self._settle_soon()

    def node_registered(self, node: Node) -> None:
        """Announce a node that registers, if the others believe that it is away.

        If it disconnects again before it is ready, the others have to be notified.
        """
        if node.id in self._announced:
            self._announce(node)
        for came in self.on_registered:
            came(node)

    def forget_node(self, node_id: int) -> None:
        """Forget what was told of a node that is no more, and to it."""
        self.retries.forget(node_id)
        for kept in (self.unanswered, self._states, self._announced):
            kept.pop(node_id, None)

    def node_stopped(self, node: Node) -> None:
        """Tell those concerned that a node is stopped by request."""
        for stopped in self.on_stopped:
            stopped(node)

    def run_over(self, run: str) -> None:
        """Tell those concerned that a run has ended."""
        for ended in self.on_run_over:
            ended(run)

    def group_created(self, group_id: int) -> None:
        """Tell those concerned that there is a group, however it was created."""
        for created in self.on_group_created:
            created(group_id)

    async def wait_until(self, condition: Callable[[], bool], within: float) -> bool:
        """Wait until a condition of the lab holds; False when it does not in time."""
        if condition():
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (condition, future)
        self._waiters.append(entry)
        try:
            async with asyncio.timeout(within):
                await future
        except TimeoutError:
            return condition()
        finally:
            if entry in self._waiters:
                self._waiters.remove(entry)
        return True

    def ack_stored(self, session: Session, frame: Frame, value: object = None) -> StoredAck:
        """Acknowledge a request once its change is in Postgres, however long that takes."""
        ack = StoredAck(session, frame, value)
        self._acks.post(ack.send)
        return ack

    def when_stored(self, call: Callable[[], None]) -> None:
        """Make a call once all earlier writes are in Postgres, however long that takes."""
        self._acks.post(call)

    def close(self) -> None:
        """Cancel all timers and tasks."""
        for handle in (self._pending, self._settle_pending):
            if handle is not None:
                handle.cancel()
        self._acks.close()
        self.retries.close()

    # Helpers.

    def _resend(self, node_id: int) -> None:
        self.lab.resend(node_id)
        self.touch()

    def _send_directory(self) -> None:
        whole = self.lab.full_directory()
        wanted = {entry.group_id: entry for entry in whole.groups}
        for session in self.node_sessions():
            if session.directory == wanted:
                continue
            message = whole
            if session.directory is not None:
                new = tuple(entry for key, entry in wanted.items() if session.directory.get(key) != entry)
                gone = tuple(key for key in session.directory if key not in wanted)
                message = InstallGroupDirectory(whole.version, new, gone)
            session.directory = dict(wanted)
            self.command(session, self.lab.registry.node(min(session.nodes)), message, to=0)

    def _send_absent(self) -> None:
        """Send the absent nodes to all connections with new nodes, in one batch."""
        fresh = [session for session in self.node_sessions() if session.new_nodes]
        if not fresh:
            return
        registry = self.lab.registry
        absent = [
            (each, state) for each, state in self._announced.items() if registry.node(each).peer is None
        ]
        for session in fresh:
            session.new_nodes = False
            for node_id, state in absent:
                session.connection.send_nowait(NodeState(node_id, state.value))

    def _announce(self, node: Node) -> None:
        """Announce the state of a node, unless it was announced before."""
        if self._announced.get(node.id, NodeStates.READY) is node.state:
            return
        if node.state is NodeStates.READY:
            del self._announced[node.id]
        else:
            self._announced[node.id] = node.state
        self._state_changes.append(encode(Frame(NodeState(node.id, node.state.value))))

    def _send_state_changes(self) -> None:
        """Send the collected node states to all connections, encoded once."""
        for changed in batches(self._state_changes):
            for session in self.node_sessions():
                session.connection.send_encoded(changed)
        self._state_changes.clear()

    def _settle_soon(self) -> None:
        if self._settle_pending is None:
            self._settle_pending = asyncio.get_running_loop().call_soon(self._settle)

    def _settle(self) -> None:
        """Update readiness: of nodes, of the lab, and of requests that wait for it."""
        self._settle_pending = None
        lab = self.lab
        if lab.routes_can_go_on and self._pending is None:
            self.pump()
        became = lab.newly_ready()
        self.events.add_many("node.ready", [node.id for node in became])
        for node in became:
            self._states[node.id] = node.state.value
            self._announce(node)
        if lab.barrier_passed():
            self.store.lab.lab_ready(self.settings.lab)
            self.events.add("lab.ready", facts={"nodes": lab.readiness.counts()[1]})
            for node in lab.registry:
                node.sent_state.topology_ready = node.peer is not None
            self.broadcast(TopologyReady())
            self.touch()
        elif lab.readiness.passed:
            for node in became:
                if not node.sent_state.topology_ready and isinstance(node.peer, Session):
                    node.sent_state.topology_ready = True
                    node.peer.connection.send_nowait(TopologyReady(), node=node.id)
        self._send_state_changes()
        if self._states:
            self.store.lab.node_states(list(self._states.items()))
            self._states.clear()
        for condition, future in self._waiters:
            if not future.done() and condition():
                future.set_result(None)
