"""The controller service: listen for connections, dispatch messages, and apply changes made by SQL."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable

from orchestrator import log
from orchestrator.clock import Clock, SystemClock
from orchestrator.controller import access, restore
from orchestrator.controller.agent_handler import AgentHandler
from orchestrator.controller.core import Core, Session
from orchestrator.controller.events import EventLog
from orchestrator.controller.flow_requests import FlowRequests
from orchestrator.controller.lab_changes import LabChanges
from orchestrator.controller.max_flows import MaxFlows
from orchestrator.controller.metrics import MetricsCollector
from orchestrator.controller.node_handler import NodeHandler
from orchestrator.controller.operator_handler import OperatorHandler
from orchestrator.controller.probes import Probes
from orchestrator.controller.rest.server import RestApi
from orchestrator.controller.sql_changes import SqlChanges
from orchestrator.controller.user_flows import UserFlows
from orchestrator.errors import StartFailed, StoreUnavailable
from orchestrator.protocol import Admission, Bad, Frame, Peer, ProtocolError, Role, permitted
from orchestrator.protocol.messages import Ack, Error, Publish, RoleLog, RoleReport
from orchestrator.settings.controller import ControllerSettings
from orchestrator.store import LinkRow, Store
from orchestrator.tasks import spawn
from orchestrator.transport import Connection, MemoryPipe, Server, admit, serve

__all__ = ["STORE_LIMIT", "Controller"]

STORE_LIMIT = 120.0
"""Seconds to wait for Postgres at the start: containers of a large lab start all at the same time."""

REGISTRATION_GRACE = 10.0
"""Seconds that nodes have to come back to a controller that was away, before they count as gone."""

PIPE_LIMIT = 4
"""Batches under way to a client of the REST API; each has at most 256 KiB, or is one message."""

STORED = (RoleReport, RoleLog, Publish)
"""Messages of which there may be more than Postgres takes."""

FRAMES_PER_TURN = 200
"""Frames taken from one connection before the others have a turn."""


class Controller:
    """One lab's controller.

    Args:
        settings: Its file.
        clock: The time.
        store_limit: Seconds to wait for Postgres at the start; not longer than nodes may take to be ready.

    Attributes:
    """

    def __init__(
        self,
        settings: ControllerSettings,
        *,
        clock: Clock | None = None,
        store_limit: float | None = None,
    ) -> None:
        self.settings = settings
        self._clock = clock or SystemClock()
        self._store_limit = store_limit or min(STORE_LIMIT, settings.ready_timeout_ms / 1000)
        self._log = log.get("orchestrator.controller", lab=settings.lab)
        self._admission = Admission(settings.node_key, settings.operator_token)
        self._store = Store(settings.db.conninfo(), clock=self._clock)
        self._server: Server | None = None
        self._return_timer: asyncio.TimerHandle | None = None

    core: Core
    nodes: NodeHandler
    agents: AgentHandler
    operators: OperatorHandler
    flows: UserFlows
    metrics: MetricsCollector
    probes: Probes
    _sql: SqlChanges

    async def start(self) -> None:
        """Read what Postgres remembers and listen.

        Raises:
            StoreUnavailable: Postgres did not answer in time.
            StartFailed: The address cannot be listened on.
        """
        settings = self.settings
        found = await self._store.open(settings.lab, within=self._store_limit)
        events = EventLog(settings.lab, self._store, self._clock, found.last_event)
        lab = restore.build(settings, found)
        self.core = Core(settings, lab, self._store, events, self._clock)
        self.core.incarnation = found.lab.incarnation
        self.nodes = NodeHandler(self.core)
        self.agents = AgentHandler(self.core)
        self.operators = OperatorHandler(self.core, self.agents)
        self._note_refused(found.links)
        restore.save(settings, lab, found, self._store)
        restore.give_addresses(lab.groups, found.groups, self._store)
        self._add_flows()
        self.metrics = MetricsCollector(self.core)
        self.nodes.handlers |= self.metrics.of_nodes
        self.operators.handlers |= self.metrics.of_operators
        self.probes = Probes(self.core)
        self.nodes.handlers |= self.probes.reports
        self.operators.handlers |= self.probes.of_operators
        try:
            await self.flows.start()
            await self.probes.start()
        except StoreUnavailable:
            await self._store.close()
            raise
        for run in found.runs:
            try:
                self.agents.restore(run, found.traces)
            except Exception:  # a row written by SQL must not prevent a restart
                self._log.exception("run not restored", run=run.run)
        try:
            api = RestApi(self._open_operator, settings.operator_token)
            self._server = await serve(
                self._handle, settings.host, settings.port, http_handler=self._http, http_api=api
            )
        except OSError as error:
            await self._store.close()
            raise StartFailed(
                f"the controller cannot listen on {settings.host}:{settings.port}: {error.strerror or error}",
                id="controller.listen",
            ) from None
        self._sql = SqlChanges(self.core)
        self._store.listen(self._changed_by_sql)
        self.metrics.start()
        awaited = [node for node in lab.registry if node.expected_back]
        if awaited:
            loop = asyncio.get_running_loop()
            self._return_timer = loop.call_later(REGISTRATION_GRACE, self.nodes.mark_unreachable, awaited)
        host, port = self._server.address
        facts = {
            "address": f"{host}:{port}",
            "incarnation": found.lab.incarnation,
            "nodes": len(lab.registry),
        }
        events.add("controller.listening", 0, facts)
        self.core.touch()  # a lab whose nodes are all external is ready without any of them

    def _add_flows(self) -> None:
        """Let handlers take what is said about user-space flows."""
        self.flows = UserFlows(self.core)
        requests = FlowRequests(self.core, self.flows, self._has_role)
        max_flows = MaxFlows(self.core)
        self.core.on_run_over.append(requests.run_over)
        self.nodes.handlers |= self.flows.reports | max_flows.reports
        self.agents.handlers |= requests.of_agents
        self.operators.handlers |= requests.of_operators | max_flows.of_operators
        self.operators.handlers |= LabChanges(self.core, self.flows, self.agents).handlers

    def _has_role(self, run_id: str, node: int) -> bool:
        run = self.agents.runs.get(run_id)
        return run is not None and not run.over and node in run.roles

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens on."""
        assert self._server is not None, "only a started controller has an address"
        return self._server.address

    async def stop(self) -> None:
        """Handle no more messages, write the rest, and close; nodes keep their configuration."""
        server, self._server = self._server, None
        if server is None:
            return
        if self._return_timer is not None:
            self._return_timer.cancel()
        self.core.events.add("controller.stopped")
        for session in list(self.core.sessions):
            session.connection.on_bad_frame = None
        await server.close()
        for handler in (self.nodes, self.agents, self.operators, self.flows, self.probes):
            handler.close()
        await self.metrics.close()
        await self._sql.close()
        self.core.close()
        await self._store.close()

    # Connections.

    async def _handle(self, connection: Connection) -> None:
        try:
            peer = await admit(connection, self._admission, self.settings.lab, self.core.incarnation)
        except ProtocolError as error:
            self._log.warning("peer refused", address=connection.remote, error=error.id, reason=error.message)
            return
        await self._serve_session(Session(connection, peer, {peer.node} - {0}))

    def _open_operator(self) -> Connection:
        """Return a connection in memory that is admitted as operator."""
        ours, theirs = MemoryPipe.pair(PIPE_LIMIT)
        session = Session(Connection(ours), Peer(Role.OPERATOR, "REST API", 0))
        spawn(self._serve_in_memory(session), name="REST request")
        return Connection(theirs)

    async def _serve_in_memory(self, session: Session) -> None:
        try:
            await self._serve_session(session)
        finally:
            await session.connection.close(grace=0)

    async def _serve_session(self, session: Session) -> None:
        connection = session.connection
        connection.on_bad_frame = lambda bad: self._wrong(session, bad)
        self.core.sessions.add(session)
        try:
            await self._serve_connection(session)
        finally:
            self.core.sessions.discard(session)
            self._lost(session)

    async def _serve_connection(self, session: Session) -> None:
        taken = 0
        async for frame in session.connection:
            if isinstance(frame.message, STORED):
                await (
                    self._store.wait_for_capacity()
                )  # back-pressure: a peer that sends more than can be stored blocks on its socket
            self._take(session, frame)
            taken += 1
            if taken % FRAMES_PER_TURN == 0:
                await asyncio.sleep(0)

    def _take(self, session: Session, frame: Frame) -> None:
        role = session.peer.role
        if isinstance(frame.message, (Error, Ack)):  # for each message: a union is made each time
            return  # a reply to a request that is not waited for any more
        try:
            permitted(role, frame.message)
            if role is not Role.OPERATOR:
                access.check(self._admission, session.allowed, frame)
            if role is Role.NODE:
                self.nodes.take(session, frame)
            elif role is Role.AGENT:
                self.agents.take(session, frame)
            else:
                self.operators.take(session, frame)
        except ProtocolError as error:
            self._log.debug("message refused", role=role.value, type=frame.message.type, error=error.id)
            session.connection.refuse(frame, error)
        except Exception:  # a message must not be able to end the controller, whatever it says
            self._log.exception("message failed", role=role.value, type=frame.message.type, node=frame.node)
            internal = ProtocolError(f"{frame.message.type} could not be handled", id="control.internal")
            session.connection.refuse(frame, internal)

    def _wrong(self, session: Session, bad: Bad) -> None:
        facts = {"role": session.peer.role.value, "error": bad.error.id, "reason": bad.error.message}
        self._log.warning("message not understood", address=session.connection.remote, **facts)

    def _lost(self, session: Session) -> None:
        role = session.peer.role
        if role is Role.NODE:
            self.nodes.lost(session)
        elif role is Role.AGENT:
            self.agents.lost(session)
        else:
            self.operators.lost(session)

    def _changed_by_sql(self, table: str) -> None:
        if table == "user_flows":
            self.flows.changed()
        elif table == "probes":
            self.probes.changed()
        else:
            self._sql.notified()

    def _note_refused(self, rows: Iterable[LinkRow]) -> None:
        """Note rows of links that make no sense as events, when the controller starts."""
        for row in rows:
            if row.refusal:
                facts = {"a": row.a, "b": row.b, "reason": row.refusal}
                self.core.events.add("link.refused", 0, facts, level="warning")

    def _http(self, path: str) -> tuple[int, str, bytes] | None:
        if path != "/healthz":
            return None
        problems = self.core.problems()
        ready, total = self.core.lab.readiness.counts()
        body = {
            "state": self.core.state(),
            "health": "degraded" if problems else "ok",
            "problems": list(problems),
            "ready": ready,
            "total": total,
        }
        return 200, "application/json", json.dumps(body).encode() + b"\n"
