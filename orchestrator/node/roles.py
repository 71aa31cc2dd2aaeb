"""Run one role in a thread of its own inside its node's network namespace.

The thread enters the node's network namespace first, so that all its sockets and children are there; threads
that it starts inherit the namespace.

Stopping uses several means at once, because a role may be anywhere: its waits on the controller and the
dataplane end, its children are terminated, and an exception is raised in its threads at the next Python
instruction; after half the grace time its sockets are closed as well. A role that stays in foreign code for
longer than the grace time is abandoned: it is reported as failed, and its thread ends when the call returns.

When a role ends, its processes, sockets and threads end with it. A thread that cannot be ended is listed by
`leftovers` for as long as it runs.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from orchestrator.node import children, forked, role_resources
from orchestrator.node.context import Context
from orchestrator.node.output import Lines
from orchestrator.node.program import RoleFunction
from orchestrator.node.role_resources import RoleResources
from orchestrator.node.stopped import RoleFailed, RoleStopped
from orchestrator.procfs import ProcessId
from orchestrator.values import ABANDONED, MAX_ERROR_BYTES, MAX_TRACEBACK_BYTES, safe_text

STOP_GRACE_S = 3.0
"""How long a role may take to end after it was asked to; `nm` waits a little longer than this."""

THREAD_GRACE_S = 1.0
"""How long the threads that a role started may take to end when the role has ended."""


@dataclass(frozen=True)
class Outcome:
    """How a role ended; `error` is one sentence, `traceback` is empty unless its own code raised."""

    ok: bool
    error: str = ""
    traceback: str = ""


def nothing() -> None:
    """Do nothing."""


class Functions(Protocol):
    """Finds what a role runs; see `orchestrator.node.program.Program`."""

    @property
    def folder(self) -> Path:
        """Where the scenario's files are."""

    def role(self, name: str) -> RoleFunction:
        """The function of a role."""


class RoleThread:
    """Runs one role and tells how it ended, exactly once.

    Args:
        context: What the role is handed.
        program: Where its function is.
        enter: Moves the calling thread into the node's network.
        finished: Called with the outcome, from the role's thread or from the one that gave up on it.
        namespace: The inode of the node's network namespace; None where the process's own network is the
            node's.
        release: Ends the dataplane's waits of the role when it is stopped.
        check: Called in the role's thread after its code; ends the process if that has damaged it.
    """

    def __init__(
        self,
        context: Context,
        program: Functions,
        enter: Callable[[], None],
        finished: Callable[[Outcome], None],
        *,
        namespace: int | None = None,
        release: Callable[[], None] = nothing,
        check: Callable[[], None] = nothing,
    ) -> None:
        self._context = context
        self._program = program
        self._enter = enter
        self._finished = finished
        self._namespace = namespace
        self._release = release
        self._check = check
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._told = False
        self._in_user_code = False
        self._stop_reason: str | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[object] | None = None
        self._lines = Lines(context.log.info)
        self._resources = RoleResources(self._lines.write)
        name = f"{context.role}@{context.node}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._resources.adopt(self._thread)
        with _running_lock:
            _running[self] = self._namespace
        self._thread.start()

    def stop(self, reason: str) -> None:
        """Ask the role to end; returns at once, and `finished` follows within the grace time."""
        with self._lock:
            if self._stop_reason is not None or self._told:
                return
            self._stop_reason = reason
        threading.Thread(target=self._interrupt, name=f"stop {self._thread.name}", daemon=True).start()

    def leftovers(self) -> list[threading.Thread]:
        """Threads of the role that still run although it was reported as ended."""
        if not self._told:
            return []
        own = [self._thread] if self._thread.is_alive() and self._abandoned else []
        return own + self._resources.threads()

    @property
    def _abandoned(self) -> bool:
        return self not in _running

    def _interrupt(self) -> None:
        reason = self._stop_reason or "stopped"
        deadline = time.monotonic() + STOP_GRACE_S
        self._context.interrupt(reason)
        # Twice, not repeatedly: the role's own clean-up must be able to run.
        for attempt, pause in enumerate((STOP_GRACE_S / 2, STOP_GRACE_S)):
            self._interrupt_thread(attempt)
            for thread in self._resources.threads():
                role_resources.interrupt(thread)
            self._release()
            if attempt:
                self._resources.close_sockets()
            self._end_children()
            self._thread.join(max(0.0, min(pause, deadline - time.monotonic())))
            if not self._thread.is_alive():
                return
        self._unlist()
        self._resources.close_sockets()
        self._context.end()
        self._report_outcome(
            Outcome(False, f"{reason}; it did not end within {STOP_GRACE_S:g} s and {ABANDONED}")
        )

    def _interrupt_thread(self, attempt: int) -> None:
        with self._lock:
            if not self._in_user_code:
                return
            if self._loop is not None and self._main is not None:
                self._loop.call_soon_threadsafe(self._main.cancel)
                if attempt == 0:
                    return
            role_resources.interrupt(self._thread)

    def _run(self) -> None:
        try:
            outcome = self._attempt()
        except RoleStopped:  # raised into us between the last instruction of the role and the lock
            outcome = self._stopped()
        while True:
            try:
                with self._lock:
                    self._in_user_code = False
                break
            except RoleStopped:
                continue
        self._check()
        self._clean_up()
        self._report_outcome(outcome)

    def _attempt(self) -> Outcome:
        try:
            self._enter()
            self._call()
            return Outcome(True)
        except (RoleStopped, asyncio.CancelledError):
            return self._stopped()
        except RoleFailed as failure:
            if self._stop_reason is not None:
                return self._stopped()
            return Outcome(False, failure.error, failure.traceback)
        except BaseException as error:  # a role is foreign code: whatever it raises is its result
            if self._stop_reason is not None:
                return self._stopped()
            if isinstance(error, SystemExit) and error.code in (None, 0):
                return Outcome(True)
            return failed(error, self._program.folder)

    def _call(self) -> None:
        with self._lock:
            if self._stop_reason is not None:
                raise RoleStopped(self._stop_reason)
            self._in_user_code = True
        try:
            result = self._program.role(self._context.role)(self._context)
            if inspect.isawaitable(result):
                asyncio.run(self._await(result))
        except BaseException as error:
            self._leave_if_forked(error)
            raise
        self._leave_if_forked(None)

    def _leave_if_forked(self, error: BaseException | None) -> None:
        """End a child that the role forked, where it leaves the role; the lock may be held for ever there."""
        if os.getpid() != self._process:
            forked.leave(error)

    async def _await(self, awaitable: object) -> None:
        task = asyncio.current_task()
        with self._lock:
            self._loop, self._main = asyncio.get_running_loop(), task
        try:
            await awaitable  # type: ignore[misc]  # inspect.isawaitable looked
        finally:
            if os.getpid() == self._process:
                with self._lock:
                    self._loop = self._main = None

    def _clean_up(self) -> None:
        """End what the role started and left."""
        self._unlist()
        self._end_children(collect=True)
        self._resources.close_sockets()
        left = self._resources.end_threads(THREAD_GRACE_S)
        self._lines.finish()
        if left:
            text = "these threads of the role cannot be ended, since they wait in foreign code: %s"
            self._context.log.warning(text, role_resources.names(left))
        self._resources.write = None
        self._context.end()

    def _end_children(self, *, collect: bool = False) -> None:
        try:
            children.end(self._children, collect=collect)
        except OSError as error:  # a role may use up all descriptors; it has to end all the same
            self._context.log.warning("the processes of the role cannot be ended: %s", error)

    def _children(self) -> list[ProcessId]:
        threads = [self._thread, *self._resources.threads()]
        numbers = [thread.native_id for thread in threads if thread.native_id is not None]
        return children.of_threads(numbers) + children.adopted(self._mine)

    def _mine(self, namespace: int | None) -> bool:
        """Whether a process whose starter is gone is this role's: by its node, else if no other role runs."""
        with _running_lock:
            others = [each for role, each in _running.items() if role is not self]
        if namespace is not None and namespace == self._namespace:
            return namespace not in others
        return not others

    def _unlist(self) -> None:
        with _running_lock:
            _running.pop(self, None)

    def _stopped(self) -> Outcome:
        return Outcome(False, self._stop_reason or "stopped")

    def _report_outcome(self, outcome: Outcome) -> None:
        with self._lock:
            if self._told:
                return
            self._told = True
        self._finished(outcome)


_running: dict[RoleThread, int | None] = {}
"""The roles whose code runs in this process, and the network namespaces that they run in."""
_running_lock = threading.Lock()


def failed(error: BaseException, folder: Path) -> Outcome:
    """The outcome of a role whose code, in a folder, raised."""
    return Outcome(False, _sentence(error), _own_traceback(error, folder))


def _sentence(error: BaseException) -> str:
    lines = safe_text(error, limit=MAX_ERROR_BYTES).strip().split("\n")
    text = lines[0]
    if lines[1:] and lines[1].startswith("… ["):
        text = f"{text} {lines[1]}"  # the first line alone was too long
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _own_traceback(error: BaseException, folder: Path) -> str:
    """The traceback from the scenario's first own line on, with paths as its author knows them."""
    frames = error.__traceback__
    first = frames
    while first is not None and not first.tb_frame.f_code.co_filename.startswith(str(folder)):
        first = first.tb_next
    try:
        lines = traceback.format_exception(type(error), error, first or frames)
    except Exception as second:  # the exception is of foreign code, too
        return f"the traceback cannot be shown: {type(second).__name__}"
    return safe_text("".join(lines).replace(f"{folder}/", ""), limit=MAX_TRACEBACK_BYTES)
