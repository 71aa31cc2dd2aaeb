"""One role: a thread of its own inside its node's network, from its start to its named end.

The thread enters the node's network namespace first, so every socket it opens and every child it starts is
there; threads that it starts itself inherit the namespace. Blocking calls hold up this role alone.

Stopping is asked for in three ways at once, because a role may be anywhere: its waits on the controller end
with `RoleStopped`, its children are ended, and an exception is raised in its thread at the next Python
instruction. A role that sits in foreign code for longer than the grace time is abandoned: it is reported as
failed, and its thread ends when the call returns.
"""

from __future__ import annotations

import asyncio
import ctypes
import inspect
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator.node import output
from orchestrator.node.context import Context, RoleStopped
from orchestrator.node.program import Program

STOP_GRACE_S = 3.0
"""How long a role may take to end after it was asked to; `nm` waits a little longer than this."""

CHILD_GRACE_S = 1.0
"""How long a role's children may take to end by themselves when the role has ended."""


@dataclass(frozen=True)
class Outcome:
    """How a role ended; `error` is one sentence, `traceback` is empty unless its own code raised."""

    ok: bool
    error: str = ""
    traceback: str = ""


class RoleThread:
    """Runs one role and tells how it ended, exactly once.

    Args:
        context: What the role is handed.
        program: Where its function is.
        enter: Moves the calling thread into the node's network.
        finished: Called with the outcome, from the role's thread or from the one that gave up on it.
    """

    def __init__(
        self,
        context: Context,
        program: Program,
        enter: Callable[[], None],
        finished: Callable[[Outcome], None],
    ) -> None:
        self._context = context
        self._program = program
        self._enter = enter
        self._finished = finished
        self._lock = threading.Lock()
        self._told = False
        self._in_user_code = False
        self._stop_reason: str | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[object] | None = None
        name = f"{context.role}@{context.node}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, reason: str) -> None:
        """Ask the role to end; returns at once, and `finished` follows within the grace time."""
        with self._lock:
            if self._stop_reason is not None or self._told:
                return
            self._stop_reason = reason
        threading.Thread(target=self._press, name=f"stop {self._thread.name}", daemon=True).start()

    def _press(self) -> None:
        reason = self._stop_reason or "stopped"
        deadline = time.monotonic() + STOP_GRACE_S
        self._context.interrupt(reason)
        # Twice, not over and over: a role's own clean-up deserves some peace.
        for pause in (STOP_GRACE_S / 2, STOP_GRACE_S):
            self._interrupt_thread()
            if self._thread.native_id is not None:
                end_children(self._thread.native_id)
            self._thread.join(max(0.0, min(pause, deadline - time.monotonic())))
            if not self._thread.is_alive():
                return
        self._tell(Outcome(False, f"{reason}; it did not end within {STOP_GRACE_S:g} s and was abandoned"))

    def _interrupt_thread(self) -> None:
        with self._lock:
            if not self._in_user_code:
                return
            if self._loop is not None and self._main is not None:
                self._loop.call_soon_threadsafe(self._main.cancel)
            elif self._thread.ident is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self._thread.ident), ctypes.py_object(RoleStopped)
                )

    def _run(self) -> None:
        try:
            outcome = self._attempt()
        except RoleStopped:  # raised into us between the last instruction of the role and the lock
            outcome = self._stopped()
        end_children(threading.get_native_id(), collect=True)
        self._tell(outcome)

    def _attempt(self) -> Outcome:
        try:
            self._enter()
            with output.captured(self._context.log.info):
                function = self._program.role(self._context.role)
                self._call(function)
            return Outcome(True)
        except (RoleStopped, asyncio.CancelledError):
            return self._stopped()
        except BaseException as error:  # a role is foreign code: whatever it raises is its result
            if self._stop_reason is not None:
                return self._stopped()
            return Outcome(False, _sentence(error), _own_traceback(error, self._program.folder))

    def _call(self, function: Callable[[Context], object]) -> None:
        with self._lock:
            if self._stop_reason is not None:
                raise RoleStopped(self._stop_reason)
            self._in_user_code = True
        try:
            result = function(self._context)
            if inspect.isawaitable(result):
                asyncio.run(self._await(result))
        finally:
            with self._lock:
                self._in_user_code = False
                self._loop = self._main = None

    async def _await(self, awaitable: object) -> None:
        task = asyncio.current_task()
        with self._lock:
            self._loop, self._main = asyncio.get_running_loop(), task
        await awaitable  # type: ignore[misc]  # inspect.isawaitable looked

    def _stopped(self) -> Outcome:
        return Outcome(False, self._stop_reason or "stopped")

    def _tell(self, outcome: Outcome) -> None:
        with self._lock:
            if self._told:
                return
            self._told = True
        self._finished(outcome)


def end_children(thread: int, *, collect: bool = False) -> None:
    """End the processes that a thread of ours started and that still run.

    Args:
        thread: The thread's kernel id.
        collect: Also collect their exit codes; only when no `Popen` of the role can want them any more.
    """
    started = _children(thread)
    for pid in started:
        _send(pid, signal.SIGTERM)
    deadline = time.monotonic() + CHILD_GRACE_S
    while any(_running(pid) for pid in started) and time.monotonic() < deadline:
        time.sleep(0.02)  # waiting on them would take their exit codes from the role's own Popen
    for pid in started:
        if _running(pid):
            _send(pid, signal.SIGKILL)
        if collect:
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _children(thread: int) -> list[int]:
    try:
        text = Path(f"/proc/self/task/{thread}/children").read_text()
    except OSError:
        return []
    return [pid for word in text.split() if _running(pid := int(word))]


def _running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _sentence(error: BaseException) -> str:
    text = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _own_traceback(error: BaseException, folder: Path) -> str:
    """The traceback from the scenario's first own line on, with paths as its author knows them."""
    frames = error.__traceback__
    first = frames
    while first is not None and not first.tb_frame.f_code.co_filename.startswith(str(folder)):
        first = first.tb_next
    lines = traceback.format_exception(type(error), error, first or frames)
    return "".join(lines).replace(f"{folder}/", "")
