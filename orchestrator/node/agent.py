"""Handle the controller's commands for the nodes of this process: prepare, run and stop roles.

Everything here runs in one event loop and is short; roles run in threads of their own and send through the
controller link, which accepts messages from any thread.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path

from orchestrator import log
from orchestrator.errors import NmError
from orchestrator.node import forked
from orchestrator.node.link import ControllerLink
from orchestrator.node.nodes import Nodes
from orchestrator.node.runs import Run
from orchestrator.node.watchdog import Watchdog, own_descriptors
from orchestrator.protocol import Frame, Message, Refused
from orchestrator.protocol.messages import (
    AgentHello,
    AgentTroubles,
    BarrierReleased,
    ChangeLinks,
    Error,
    LinksChanged,
    PrepareRun,
    Published,
    RoleFinished,
    RoleLog,
    RunFlow,
    RunFlowEnded,
    RunningRole,
    RunRole,
    StopRole,
)
from orchestrator.tasks import spawn
from orchestrator.transport import Connection

_logger = log.get(__name__)

TIME_LIMIT_MARGIN_S = 2.0
"""How much longer than its time limit a run may take before the agent itself ends it."""

LEFT_GRACE_S = 2.0
"""How long what a run left may still take to end before its node counts as degraded."""

LEFT_LOOK_S = 1.0
"""How often it is looked whether what runs left has ended meanwhile."""

STOP_LIMIT_S = 5.0
"""How long the roles that are running may take to end when the agent itself is ended."""


STDERR = 2
"""Written to as a descriptor: `sys.stderr` sends what a role's thread writes to that role's log."""


class Agent:
    """Runs roles for the controller.

    Args:
        nodes: The nodes of this process.
        url: The controller's websocket.
        tokens: Each node's own token.
        base: The address that node n's number is added to.
        ipv6: The IPv6 network to whose first address it is added; empty for none.
        work: Where the code of scenarios is unpacked.
        logs: Where each node has a log file of its own; None in a container, whose log is its node's.
        watchdog: Watches over what roles share with the nodes.
        authority: The certificate authority of the controller's certificate, PEM text; empty without TLS.
    """

    def __init__(
        self,
        nodes: Nodes,
        *,
        url: str,
        tokens: Mapping[int, str],
        base: str,
        work: Path,
        logs: Path | None,
        watchdog: Watchdog,
        authority: str = "",
        ipv6: str = "",
    ) -> None:
        self._nodes = nodes
        self._watchdog = watchdog
        self._base = int(IPv4Address(base))
        self._base6 = int(IPv6Network(ipv6)[0]) if ipv6 else None
        self._work = work
        self._logs = logs
        self._runs: dict[str, Run] = {}
        self._left: list[tuple[Run, float]] = []  # with the time at which each ended
        self._troubles: dict[int, str] = {}
        self._looking: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._role_over = asyncio.Event()
        self._tokens = dict(tokens)
        first = min(tokens)
        self._link = ControllerLink(
            url,
            tokens[first],
            first,
            self._hello,
            self._handle_commands,
            self._ask_again,
            self._request_refused,
            authority,
        )
        self._commands: dict[type[Message], Callable[..., None]] = {
            PrepareRun: self._prepare,
            RunRole: self._run_role,
            StopRole: self._stop_role,
            BarrierReleased: self._released,
            Published: self._published,
            LinksChanged: self._answered,
            RunFlowEnded: self._answered,
        }

    async def serve(self) -> None:
        """Handle commands until cancelled, then stop all roles."""
        try:
            await self._link.run()
        finally:
            if self._looking is not None:
                self._looking.cancel()
            await self._end_roles()
            self._watchdog.close()

    def nodes_changed(self, tokens: Mapping[int, str]) -> None:
        """Run roles in these nodes from now on: the controller is told on a new connection."""
        if tokens and tokens.keys() != self._tokens.keys():
            self._tokens = dict(tokens)
            self._link.introduce_again()

    def _hello(self) -> AgentHello:
        running = [RunningRole(run.id, node) for run in self._runs.values() for node in run.running]
        return AgentHello(tuple(sorted(self._tokens)), tuple(running), self._tokens)

    def _ask_again(self) -> None:
        self._link.post(AgentTroubles(self._troubles), 0, False)
        for run in self._runs.values():
            run.ask_again()

    def _handle_commands(self, connection: Connection, frame: Frame) -> None:
        order = self._commands.get(type(frame.message))
        if order is None:
            if isinstance(frame.message, Error):
                _logger.warning("controller reported an error", why=frame.message.message)
            else:
                connection.refuse(frame, Refused(f"an agent does not take {frame.message.type}"))
            return
        try:
            order(frame.message)
        except NmError as error:
            connection.refuse(frame, Refused(error.message, id=error.id, hint=error.hint))
        else:
            connection.ack(frame)

    def _prepare(self, message: PrepareRun) -> None:
        if message.run in self._runs:
            return  # said again after a reconnect
        for run in [run for run in self._runs.values() if not run.running]:
            self._end(run)
        self._watchdog.arm()
        if not self._runs:
            # A forked child of a role closes what is open now; what a role opens later, it may use.
            forked.close_in_child(own_descriptors())
        self._runs[message.run] = Run(
            message,
            self._work,
            self._post,
            self._address,
            self._address6 if self._base6 is not None else None,
            has_room=self._link.has_room,
            check=self._watchdog.check,
        )
        # The controller ends a run in time; this is for one that is away just then.
        self._loop.call_later(message.timeout_s + TIME_LIMIT_MARGIN_S, self._time_out, message.run)
        _logger.info("run prepared", run=message.run, scenario=message.scenario)

    def _run_role(self, message: RunRole) -> None:
        run = self._run(message.run)
        if message.node not in self._nodes:
            raise Refused(f"node {message.node} is not in this process")
        if message.node in run.running:
            return
        run.start(self._nodes[message.node], message.role, self._role_ended)
        _logger.info("role started", run=message.run, node=message.node, role=message.role)

    def _stop_role(self, message: StopRole) -> None:
        run = self._runs.get(message.run)
        if run is None:
            return
        if run.stop(message.node, message.reason):
            _logger.info("role stopped", run=message.run, node=message.node, reason=message.reason)
        if message.node == 0:
            run.over = True
            self._end_if_over(run)

    def _released(self, message: BarrierReleased) -> None:
        if message.run in self._runs:
            self._runs[message.run].released(message.name, message.generation)

    def _published(self, message: Published) -> None:
        if message.run in self._runs:
            self._runs[message.run].published(message.key, message.value)

    def _answered(self, message: LinksChanged | RunFlowEnded) -> None:
        if message.run in self._runs:
            self._runs[message.run].answered(message)

    def _request_refused(self, request: ChangeLinks | RunFlow, error: Error) -> None:
        where = (request.run, request.node, request.number)
        if isinstance(request, RunFlow):
            self._answered(RunFlowEnded(*where, None, error.message, error.error))
        else:
            self._answered(LinksChanged(*where, error.message, error.error))

    def _time_out(self, run: str) -> None:
        if run in self._runs:
            self._runs[run].over = True
            self._runs[run].time_out()
            self._end_if_over(self._runs[run])

    def _role_ended(self, node: int) -> None:
        _logger.info("role ended", node=node)
        with suppress(RuntimeError):  # a thread that was abandoned may outlive the loop
            self._loop.call_soon_threadsafe(self._after_role)

    def _after_role(self) -> None:
        self._role_over.set()
        for run in list(self._runs.values()):
            self._end_if_over(run)

    def _end_if_over(self, run: Run) -> None:
        """End a run of which the controller has said that it is over, once its last role here has ended."""
        if run.over and not run.running:
            self._end(run)

    def _end(self, run: Run) -> None:
        """End what a run opened, and forget it."""
        del self._runs[run.id]
        run.release()
        if not self._runs:
            self._watchdog.disarm()
            self._watchdog.restore()
        spawn(asyncio.to_thread(run.close), name=f"close run {run.id}")
        self._left.append((run, self._loop.time()))
        if self._looking is None:
            self._looking = self._loop.call_later(LEFT_GRACE_S, self._look_for_left)

    def _look_for_left(self) -> None:
        """Tell the controller which nodes still have leftovers of a role, and which no
        more."""
        self._looking = None
        troubles: dict[int, str] = {}
        now = self._loop.time()
        for entry in list(self._left):
            run, ended = entry
            left = run.leftovers
            if not left:
                self._left.remove(entry)
            elif now >= ended + LEFT_GRACE_S:
                troubles |= left
        if troubles != self._troubles:
            self._troubles = troubles
            for node, trouble in troubles.items():
                _logger.warning("a node is degraded", node=node, why=trouble)
            self._link.post(AgentTroubles(troubles), 0, False)
        if self._left:
            self._looking = self._loop.call_later(LEFT_LOOK_S, self._look_for_left)

    def _run(self, run: str) -> Run:
        if run not in self._runs:
            raise Refused(f"run {run} was not prepared here")
        return self._runs[run]

    def _post(self, message: Message, node: int, durable: bool) -> None:
        if isinstance(message, RoleLog):
            keep(self._logs, node, message.level, [message.text], message.run)
        elif isinstance(message, RoleFinished) and not message.ok:
            said = f"role {message.role} failed: {message.error}"
            traceback = [f"| {line}" for line in (message.traceback or "").splitlines()]
            keep(self._logs, node, "error", [said, *traceback], message.run)
        self._link.post(message, node, durable)

    def _address(self, node: int) -> str:
        return str(IPv4Address(self._base + node))

    def _address6(self, node: int) -> str:
        assert self._base6 is not None, "asked only where there is a network"
        return str(IPv6Address(self._base6 + node))

    async def _end_roles(self) -> None:
        for run in self._runs.values():
            run.stop(0, "the node is being stopped")
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_LIMIT_S):
                while any(run.running for run in self._runs.values()):
                    self._role_over.clear()
                    await self._role_over.wait()
        for run in list(self._runs.values()):
            run.release()
            await asyncio.to_thread(run.close)


def keep(logs: Path | None, node: int, level: str, lines: Sequence[str], run: str) -> None:
    """Write lines to a node's log; may be called from any thread.

    Args:
        logs: Where each node has a log file of its own; None in a container, whose log is its node's.
        node: Whose log.
        level: The level of all lines.
        lines: What is logged.
        run: The run that it belongs to.
    """
    text = "".join(f"{level}  {line}  run={run}\n" for line in lines)
    data = text.encode(errors="backslashreplace")
    # The lines go to the controller anyway; a disk that is full is no reason for a role to fail.
    with suppress(OSError):
        if logs is None:
            os.write(STDERR, data)
            return
        with (logs / f"node-{node}.log").open("ab") as file:
            file.write(data)
