"""Detect damage that roles do to the node's process, and restore shared state after them.

Roles run in the process that hosts the nodes. A role that closes descriptors which it did not open can take a
TUN device or an event loop away from the node; only a new process repairs that. The watchdog notices it
within a second and ends the process with the reason in its log, so that `nm up` replaces it.

What a role may change and can be restored is restored when no role runs any more: the standard streams, the
working directory, the file mode mask, the environment, resource limits and settings of the interpreter.
"""

from __future__ import annotations

import os
import stat
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from orchestrator import syscalls
from orchestrator.node import output
from orchestrator.node.interpreter import Settings

__all__ = ["DAMAGED", "Watchdog", "own_descriptors"]

DAMAGED = 70
"""The exit code of a process that roles have damaged; EX_SOFTWARE of sysexits.h."""

LOOK_S = 1.0
"""How often descriptors are looked at while roles run: a thousand nodes cost a millisecond."""

_DEVICE = "/dev/net/tun"

_WATCHED = (_DEVICE, "anon_inode:[eventpoll]", "anon_inode:[eventfd]")
"""What is held open as long as the node lives: its devices, and what its threads wait with."""

_ALIKE = ("anon_inode:[eventpoll]", "anon_inode:[eventfd]")
"""Those of them that only the kernel can tell from another one of their kind."""

_STANDARD = (0, 1, 2)


class Watchdog:
    """Records the node's descriptors before the first role starts.

    Args:
        namespaces: Open files that name network namespaces.
    """

    def __init__(self, namespaces: Iterable[int] = ()) -> None:
        self._kept = [
            os.dup(number) if _open(number) else os.open(os.devnull, os.O_RDWR) for number in _STANDARD
        ]
        self._folder = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._mask = os.umask(0o022)
        os.umask(self._mask)
        self._environment = dict(os.environ)
        self._settings = Settings()
        self._looking = threading.Lock()
        self._looks = 0  # begun so far
        # A standard module that a role deletes would be imported a second time by the next one.
        self._modules = dict(sys.modules)
        watched = {number: link for number, link in _links().items() if link in _WATCHED}
        watched |= dict.fromkeys(namespaces, "network namespace")
        watched |= dict.fromkeys([*self._kept, self._folder], "file")
        self._watched = {number: (link, _identity(number)) for number, link in watched.items()}
        # Event queues and counters have all the same inode; a replacement is distinguished from a copy.
        self._copies = {number: os.dup(number) for number, link in watched.items() if link in _ALIKE}
        self.namespaces: Callable[[], Iterable[int]] = tuple
        self._closed = False
        self._changing = False
        self._armed = threading.Event()
        self._thread: threading.Thread | None = None

    def arm(self) -> None:
        """Start periodic checks."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self._thread.start()
        self._armed.set()

    def disarm(self) -> None:
        """Stop periodic checks, because no role runs."""
        self._armed.clear()

    @contextmanager
    def nodes_change(self) -> Iterator[None]:
        """Check nothing while nodes are closed or opened by request; what is gone then is watched no more.

        Of what was opened, devices and namespaces are watched: event queues may be those of roles that run.
        """
        with self._looking:
            self._changing = True
        try:
            yield
        finally:
            with self._looking:
                self._changing = False
                self._forget_closed()
                opened = set(self.namespaces())
                for number, link in _links().items():
                    if (link == _DEVICE or number in opened) and number not in self._watched:
                        self._watched[number] = (link, _identity(number))

    def _forget_closed(self) -> None:
        for number, (_, identity) in list(self._watched.items()):
            copy = self._copies.get(number)
            gone = _identity(number) != identity
            if gone or (copy is not None and not syscalls.same_open_file(number, copy)):
                del self._watched[number]
                if copy is not None:
                    os.close(self._copies.pop(number))

    def close(self) -> None:
        """End all checks: the agent ends, and closes its event loop's descriptors."""
        with self._looking:
            self._closed = True
            self.disarm()
            while self._copies:
                os.close(self._copies.popitem()[1])

    def damage(self) -> str:
        """Return the node's missing or replaced descriptors, in words; empty if there are none."""
        for number, (link, identity) in self._watched.items():
            if _identity(number) != identity:
                return f"descriptor {number} ({link})"
        for number, copy in self._copies.items():
            if not syscalls.same_open_file(number, copy):
                return f"descriptor {number} ({self._watched[number][0]}, which is another one now)"
        return ""

    def check(self) -> None:
        """End this process, at once and with the reason in its log, if something was taken away.

        A look that began after the call answers for it too: a thousand roles may end together, and each look
        goes over all descriptors of the process.
        """
        arrived = self._looks
        with self._looking:
            if self._looks > arrived:
                return
            self._looks += 1
            damage = "" if self._closed or self._changing else self.damage()
        if not damage:
            return
        text = (
            f"error  a role closed what belongs to the node: {damage}; this process ends, "
            "and `nm up` with the lab's topology file starts it again\n"
        )
        for number in (2, self._kept[2]):
            with suppress(OSError):
                os.write(number, text.encode())
                break
        os._exit(DAMAGED)

    def restore(self) -> None:
        """Put back what roles may have changed; called when none runs."""
        for number, kept in zip(_STANDARD, self._kept, strict=True):
            if _identity(number) != _identity(kept):
                os.dup2(kept, number, inheritable=True)
        self._settings.restore()
        output.restore()
        with suppress(OSError):
            os.fchdir(self._folder)
        os.umask(self._mask)
        _restore(self._environment)
        sys.modules.update(self._modules)

    def _watch(self) -> None:
        while True:
            self._armed.wait()
            self.check()
            threading.Event().wait(LOOK_S)


def own_descriptors() -> dict[int, str]:
    """All descriptors of this process except the standard streams, each with what it is."""
    return {number: link for number, link in _links().items() if number not in _STANDARD}


def _links() -> dict[int, str]:
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found[int(entry.name)] = str(entry.readlink())
    return found


def _identity(number: int) -> tuple[int, ...] | None:
    try:
        seen = os.fstat(number)
    except OSError:
        return None
    return seen.st_dev, seen.st_ino, stat.S_IFMT(seen.st_mode)


def _open(number: int) -> bool:
    return _identity(number) is not None


def _restore(wanted: Mapping[str, str]) -> None:
    if dict(os.environ) == wanted:
        return
    for name in os.environ.keys() - wanted.keys():
        del os.environ[name]
    os.environ.update(wanted)
