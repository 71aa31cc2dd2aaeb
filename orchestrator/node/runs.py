"""The state of one run in an agent: its code, its roles, and what they wait for.

The agent's loop calls in with the controller's messages; role threads call in through `Wire`. A lock protects
the tables; nothing is sent or waited for while it is held.
"""

from __future__ import annotations

import gc
import itertools
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.node import dataplane
from orchestrator.node.context import Context, RoleError, RoleStopped
from orchestrator.node.isolated import IsolatedProgram
from orchestrator.node.nodes import Node
from orchestrator.node.program import Program
from orchestrator.node.role_resources import names
from orchestrator.node.roles import Outcome, RoleThread, nothing
from orchestrator.node.traffic import with_traffic
from orchestrator.protocol import Message
from orchestrator.protocol.messages import (
    BarrierEnter,
    ChangeLinks,
    FlowRequest,
    FlowStatus,
    LinksChanged,
    Lookup,
    PrepareRun,
    Publish,
    RoleFinished,
    RoleLog,
    RoleProgress,
    RoleReport,
    RoleStarted,
    RunFlow,
    RunFlowEnded,
    TimelineChange,
)
from orchestrator.values import MAX_ERROR_BYTES, MAX_TRACEBACK_BYTES, safe_text

LOOK_S = 0.01
"""How often a role looks for room in the outbox while there is none: it can be stopped between two."""

if TYPE_CHECKING:
    from orchestrator.node.dataplane import RunDataplane

Wait = tuple[int, Future[Any]]
"""A node whose role waits, and what it waits on."""

Post = Callable[[Message, int, bool], None]
"""Sends a message about a node; the last argument says whether it has to arrive even across a reconnect."""


class Run:
    """One run; it is the `Wire` of its roles' contexts.

    Attributes:
        id: Its name.
        timeout_s: Its time limit.
        over: Whether the controller has said that it has ended, or its time is over.

    Args:
        prepared: What the controller said about the run.
        work: Where its code may be unpacked.
        post: How to send; safe from any thread.
        address: Says a node's address.
        has_room: Whether there is room for what a role says as often as it likes; safe from any thread.
        check: Ends the process if a role has damaged it.
    """

    def __init__(
        self,
        prepared: PrepareRun,
        work: Path,
        post: Post,
        address: Callable[[int], str],
        address6: Callable[[int], str] | None = None,
        has_room: Callable[[], bool] = lambda: True,
        check: Callable[[], None] = nothing,
    ) -> None:
        self.id = prepared.run
        self.timeout_s = prepared.timeout_s
        self.over = False
        self._prepared = prepared
        self._program = Program(prepared.run, prepared.files, prepared.entry, work)
        self._post = post
        self._has_room = has_room
        self._addresses = {node: address(node) for node in prepared.names}
        self._addresses6 = {node: address6(node) for node in prepared.names} if address6 else {}
        self._lock = threading.Lock()
        self._roles: dict[int, tuple[RoleThread, Context]] = {}
        self._check = check
        self._views: dict[int, RunDataplane] = {}
        self._ended: dict[int, list[RoleThread]] = {}
        self._rows: defaultdict[int, int] = defaultdict(int)
        self._numbering = threading.Lock()  # rows are posted in the order of their numbers
        self._entered: defaultdict[tuple[int, str], int] = defaultdict(int)
        self._barriers: defaultdict[tuple[str, int], list[Wait]] = defaultdict(list)
        self._lookups: defaultdict[str, list[Wait]] = defaultdict(list)
        self._asked: dict[tuple[int, int], tuple[ChangeLinks | RunFlow, Future[Any]]] = {}
        self._numbers = itertools.count(1)

    @property
    def running(self) -> list[int]:
        """The nodes whose roles have not ended yet."""
        with self._lock:
            return sorted(self._roles)

    @property
    def leftovers(self) -> dict[int, str]:
        """What roles that have ended left running, in words, by node."""
        with self._lock:
            ended = {node: list(threads) for node, threads in self._ended.items()}
        found = {}
        for node, roles in ended.items():
            if threads := [thread for role in roles for thread in role.leftovers()]:
                found[node] = f"run {self.id} left a thread that cannot be ended: {names(threads)}"
        return found

    def start(self, node: Node, role: str, ended: Callable[[int], None]) -> None:
        """Start a role in a node; `ended` is called from some thread when it is over."""
        prepared = self._prepared
        view = self._views[node.id] = dataplane.run_view(node.dataplane)
        context = Context(
            dataplane=view,
            node=node.id,
            role=role,
            params=prepared.params,
            seed=prepared.seed,
            roles=prepared.roles,
            names=prepared.names,
            addresses=self._addresses,
            wire=self,
            has_room=self._has_room,
            addresses6=self._addresses6,
        )

        def finished(outcome: Outcome) -> None:
            error = safe_text(outcome.error, limit=MAX_ERROR_BYTES) or None
            traceback = safe_text(outcome.traceback, limit=MAX_TRACEBACK_BYTES) or None
            with self._numbering:
                told = (outcome.ok, error, traceback, self._rows[node.id])
                self._post(RoleFinished(self.id, node.id, role, *told), node.id, True)
            # Not before: the agent says which roles run here, and this one is running until its end is
            # reported.
            with self._lock:
                self._roles.pop(node.id, None)
                self._ended.setdefault(node.id, []).append(thread)
            ended(node.id)

        def enter() -> None:
            node.enter()
            view.wait_for_topology_ready(timeout_ms=int(self.timeout_s * 1000))
            self._post(RoleStarted(self.id, node.id, role), node.id, True)

        isolated = role in (prepared.isolated or ())
        functions = (
            IsolatedProgram(self._program, self, prepared, self._addresses, self._addresses6)
            if isolated
            else self._program
        )
        thread = RoleThread(
            context,
            with_traffic(functions, prepared.files, self.timeout_s, self.run_flow),
            enter,
            finished,
            namespace=node.inode,
            release=view.interrupt,
            check=self._check,
        )
        with self._lock:
            self._roles[node.id] = (thread, context)
        thread.start()

    def stop(self, node: int, reason: str) -> bool:
        """Ask one role to end, or with node 0 all of them; False if there is none."""
        with self._lock:
            chosen = [thread for number, (thread, _) in self._roles.items() if node in (0, number)]
        for thread in chosen:
            thread.stop(reason)
        return bool(chosen)

    def time_out(self) -> None:
        """Stop every role that is still running, each with what it was waiting for."""
        with self._lock:
            late = list(self._roles.values())
        for thread, context in late:
            waiting = context.waiting_for()
            where = f" while waiting for {waiting}" if waiting else ""
            thread.stop(f"took longer than {self.timeout_s:g} s{where}")

    def release(self) -> None:
        """End what the roles opened in their dataplanes; the run has ended."""
        while self._views:
            self._views.popitem()[1].close()

    def close(self) -> None:
        """Forget the code, which takes as long as the disk takes; the run has ended."""
        self.release()
        self._program.close()
        if self.leftovers:
            gc.collect()  # an executor that only its own module knew ends its threads when it is collected

    def released(self, name: str, generation: int) -> None:
        """Release the roles that wait at a barrier."""
        with self._lock:
            waiting = self._barriers.pop((name, generation), [])
        for _node, future in waiting:
            _settle(future, None)

    def published(self, key: str, value: Any) -> None:
        """Pass a published value to the roles that wait for it."""
        with self._lock:
            waiting = self._lookups.pop(key, [])
        for _node, future in waiting:
            _settle(future, value)

    def ask_again(self) -> None:
        """Repeat all pending requests: a killed controller may have acknowledged them only."""
        with self._lock:
            barriers = [(key, node) for key, waiting in self._barriers.items() for node, _ in waiting]
            lookups = [(key, node) for key, waiting in self._lookups.items() for node, _ in waiting]
            asked = [request for request, _ in self._asked.values()]
        for (name, generation), node in barriers:
            self._post(BarrierEnter(self.id, node, name, generation), node, True)
        for key, node in lookups:
            self._post(Lookup(self.id, node, key), node, True)
        for request in asked:
            self._post(request, request.node, True)

    def report(self, node: int, row: dict[str, Any]) -> None:
        """Send a row, numbered so that one sent twice is kept once."""
        self._wait_for_room(node)
        with self._numbering:
            number = self._rows[node] + 1
            self._post(RoleReport(self.id, node, str(row["role"]), number, row), node, True)
            self._rows[node] = number

    def log(self, node: int, level: str, text: str) -> None:
        """Send a line of a role's log; never waits, since what there is no room for was left out before."""
        self._post(RoleLog(self.id, node, level, safe_text(text)), node, True)

    def progress(self, node: int, done: float, total: float) -> None:
        """Say how far a role is; lost if the controller is away."""
        self._post(RoleProgress(self.id, node, done, total), node, False)

    def publish(self, node: int, key: str, value: Any) -> None:
        """Make a value known."""
        self._wait_for_room(node)
        self._post(Publish(self.id, node, key, value), node, True)

    def barrier(self, node: int, name: str) -> Future[None]:
        """Enter a barrier."""
        future: Future[None] = Future()
        with self._lock:
            self._entered[node, name] += 1
            generation = self._entered[node, name]
            self._barriers[name, generation].append((node, future))
        self._post(BarrierEnter(self.id, node, name, generation), node, True)
        return future

    def lookup(self, node: int, key: str) -> Future[Any]:
        """Ask for a value; requested each time, because a publication may be replaced."""
        future: Future[Any] = Future()
        with self._lock:
            self._lookups[key].append((node, future))
        self._post(Lookup(self.id, node, key), node, True)
        return future

    def change_links(self, node: int, change: TimelineChange) -> Future[None]:
        """Ask for a change of links."""
        return self._ask(ChangeLinks(self.id, node, next(self._numbers), change))

    def run_flow(self, node: int, flow: FlowRequest) -> Future[FlowStatus]:
        """Ask for a user-space flow; the future is done when it has ended."""
        return self._ask(RunFlow(self.id, node, next(self._numbers), flow))

    def answered(self, message: LinksChanged | RunFlowEnded) -> None:
        """Pass on what became of a change of links, or of a flow."""
        with self._lock:
            _, future = self._asked.pop((message.node, message.number), (None, None))
        if future is None:
            return
        if not message.error:
            _settle(future, message.flow if isinstance(message, RunFlowEnded) else None)
            return
        with suppress(InvalidStateError):  # the role was stopped
            future.set_exception(RoleError(message.error, id=message.error_id))

    def _ask(self, request: ChangeLinks | RunFlow) -> Future[Any]:
        future: Future[Any] = Future()
        where = (request.node, request.number)
        with self._lock:
            self._asked[where] = (request, future)
        try:
            self._post(request, request.node, True)
        except BaseException:
            with self._lock:
                del self._asked[where]  # it cannot be sent, now or later
            raise
        return future

    def _wait_for_room(self, node: int) -> None:
        """Block a role while the outbox is full.

        Raises:
            RoleStopped: The role has to end; also in threads that it started itself.
        """
        if self._has_room():
            return
        with self._lock:
            entry = self._roles.get(node)
        while not self._has_room():
            reason = entry[1].interrupted if entry is not None else None
            if reason is not None:
                raise RoleStopped(reason)
            time.sleep(LOOK_S)


def _settle(future: Future[Any], value: Any) -> None:
    with suppress(InvalidStateError):  # the role was stopped, or gave up waiting
        future.set_result(value)
