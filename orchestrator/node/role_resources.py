"""Track the threads and sockets that a role opened, so that they can be closed with the role.

Roles share one interpreter. Opened sockets are seen through the interpreter's audit events, started threads
through `threading.Thread.start`, for which there is no audit event before Python 3.12. A thread that belongs
to a role passes this on to the threads it starts. Threads and sockets that C code creates are not seen.
Processes are found through `/proc`; see `children`.
"""

from __future__ import annotations

import ctypes
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from weakref import WeakKeyDictionary, WeakSet

from orchestrator.node import forked
from orchestrator.node.stopped import RoleStopped

__all__ = ["RoleResources", "install", "owner"]

Write = Callable[[str, str], None]
"""Takes some text of a stream (`stdout` or `stderr`)."""

POLL_S = 0.02
"""How often threads that were asked to end are looked at."""


class RoleResources:
    """What one role owns.

    Args:
        write: Where what its threads print goes.
    """

    def __init__(self, write: Write) -> None:
        self.write: Write | None = write
        self._threads: WeakSet[threading.Thread] = WeakSet()
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._lock = threading.Lock()

    def adopt(self, thread: threading.Thread) -> None:
        """Count a thread, and all that it starts from now on, to this role."""
        _owners[thread] = self

    def started(self, thread: threading.Thread) -> None:
        """Note a thread that this role starts."""
        _owners[thread] = self
        with self._lock:
            self._threads.add(thread)

    def opened(self, opened: socket.socket) -> None:
        """Note a socket that this role opens."""
        with self._lock:
            self._sockets.add(opened)

    def threads(self) -> list[threading.Thread]:
        """The threads that it started and that still run."""
        with self._lock:
            return [thread for thread in self._threads if thread.is_alive()]

    def close_sockets(self) -> None:
        """Close its sockets; waits on them return."""
        with self._lock:
            opened = list(self._sockets)
        for each in opened:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)  # closing alone would leave a waiting thread where it is
            with suppress(OSError):
                each.close()

    def end_threads(self, grace_s: float) -> list[threading.Thread]:
        """Raise `RoleStopped` in the threads that it started, and wait for them.

        Args:
            grace_s: How long they may take together. Those that ignored the exception get it a second time
                after half of that.

        Returns:
            Those that still run: they wait in C code, where no exception appears.
        """
        begun = time.monotonic()
        asked: dict[threading.Thread, int] = {}
        while left := [thread for thread in self.threads() if thread is not threading.current_thread()]:
            passed = time.monotonic() - begun
            for thread in left:
                if asked.get(thread, 0) <= int(2 * passed / grace_s):
                    asked[thread] = asked.get(thread, 0) + 1
                    interrupt(thread)
            if passed >= grace_s:
                return left
            time.sleep(POLL_S)
        return []


def interrupt(thread: threading.Thread) -> None:
    """Raise `RoleStopped` in a thread at its next Python instruction."""
    if thread.ident is not None and thread.is_alive():
        identity, kind = ctypes.c_ulong(thread.ident), ctypes.py_object(RoleStopped)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(identity, kind)


def owner() -> RoleResources | None:
    """Whose thread the calling one is; None if it is no role's."""
    return _owners.get(threading.current_thread())


def names(threads: Iterable[threading.Thread]) -> str:
    """Threads by name, for a sentence."""
    listed = sorted(thread.name for thread in threads)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")


def install() -> None:
    """Begin to note who starts what; a second call changes nothing."""
    global _installed
    if not _installed:
        _installed = True
        sys.addaudithook(_note)
        threading.Thread.start = _start  # type: ignore[method-assign]
        forked.in_child(_owners.clear)  # what the child starts is not ours any more
        threading.excepthook = _ended_by_exception


_owners: WeakKeyDictionary[threading.Thread, RoleResources] = WeakKeyDictionary()
_installed = False
_own_start = threading.Thread.start
_own_excepthook = threading.excepthook


def _note(event: str, arguments: tuple[object, ...]) -> None:
    """Called by the interpreter for every audited action of any thread, so what does not concern us is
    quick."""
    if event != "socket.__new__" or not isinstance(arguments[0], socket.socket):
        return
    if (found := owner()) is not None:
        found.opened(arguments[0])


def _start(self: threading.Thread) -> None:
    """Start a thread, noted with the role whose thread calls."""
    if (found := owner()) is not None:
        found.started(self)
    _own_start(self)


def _ended_by_exception(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is not RoleStopped:  # which we raised ourselves
        _own_excepthook(args)
