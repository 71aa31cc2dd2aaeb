"""Read `/proc`, and signal and wait for processes by their identity.

The kernel reuses process numbers, so a process is identified by its number and its start time in clock ticks
since boot. Signals and waits go through a pidfd that is opened first and checked afterwards, so that the
number cannot have been reused in between; a pidfd also works for processes that are not our children.

Only the standard library is imported: every `nm` command, every node agent and the supervisor load this.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from orchestrator.clock import Deadline, SystemClock

__all__ = [
    "ProcessId",
    "Stat",
    "ancestry",
    "boot_id",
    "children",
    "command",
    "end",
    "environment",
    "identify",
    "local_addresses",
    "network_namespace",
    "open_pidfd",
    "own_addresses",
    "pids",
    "send_signal",
    "stat",
    "status",
    "this_process",
    "wait_gone",
    "working_directory",
]

MOST_PIDFDS = 256
"""So many processes are waited for at once: a large lab has more than we may have open files (often 1024)."""


class ProcessId(NamedTuple):
    """One process and no other: its number, and when it started in clock ticks since boot."""

    pid: int
    started: int

    def alive(self) -> bool:
        """Whether this very process still runs; one that only waits to be collected does not.

        Raises:
            OSError: As `stat`; it is not known then.
        """
        found = stat(self.pid)
        return found is not None and found.started == self.started and found.runs


class Stat(NamedTuple):
    """Some fields of `/proc/PID/stat`; times in clock ticks.

    Attributes:
        state: A character, such as `R`, `S` or `Z`.
        cpu: User and system time of all threads.
        started: Since boot.
    """

    state: str
    parent: int
    cpu: int
    started: int

    @property
    def runs(self) -> bool:
        """Whether the process has not ended; one that only waits to be collected has."""
        return self.state not in "ZX"


def stat(pid: int) -> Stat | None:
    """What the kernel says of a process; None if there is none of that number.

    Raises:
        OSError: It cannot be read, for example because we have too many open files.
    """
    try:
        raw = _content(pid, "stat")
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # or it is hidden from us (`hidepid`)
        return None
    # The name in parentheses may itself hold spaces and parentheses, in any encoding; the last one ends it.
    fields = raw.rpartition(b")")[2].split()
    cpu = int(fields[11]) + int(fields[12])
    return Stat(state=fields[0].decode(), parent=int(fields[1]), cpu=cpu, started=int(fields[19]))


def identify(pid: int) -> ProcessId | None:
    """The identity of a process, ended or not; None if there is none of that number.

    Raises:
        OSError: As `stat`.
    """
    found = stat(pid)
    return None if found is None else ProcessId(pid, found.started)


def this_process() -> ProcessId:
    """The identity of the calling process."""
    identity = identify(os.getpid())
    assert identity is not None, "we are running"
    return identity


def pids() -> list[int]:
    """The numbers of all processes that we may see."""
    return [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()]


def ancestry() -> set[int]:
    """The ids of this process and its ancestors."""
    chain = set()
    pid = os.getpid()
    while pid > 1 and pid not in chain:
        chain.add(pid)
        found = stat(pid)
        pid = found.parent if found else 0
    return chain


def children(pid: int, thread: int | None = None) -> list[int]:
    """The children that a process started or adopted, ended ones included; or one of its threads, by id.

    An adopted child is listed with the first thread, whose id is the number of the process.
    """
    try:
        threads = [str(thread)] if thread else [each.name for each in os.scandir(f"/proc/{pid}/task")]
    except OSError:
        return []
    lists = (_read(pid, f"task/{each}/children") for each in threads)
    return [int(word) for text in lists if text for word in text.split()]


def environment(pid: int, having: str = "") -> dict[str, str]:
    """The environment that a process was started with; empty if it is gone or not ours to see.

    Args:
        pid: The process.
        having: Empty also where this text, such as `NAME=value`, is nowhere in it. A scan of all processes
            takes a fraction of the time with it.
    """
    raw = _read(pid, "environ") or b""
    if having and os.fsencode(having) not in raw:
        return {}
    pairs = (item.partition(b"=") for item in raw.split(b"\0"))
    return {os.fsdecode(name): os.fsdecode(value) for name, found, value in pairs if found}


def command(pid: int) -> list[str]:
    """The arguments of a process; empty if it is gone, not ours to see, or a zombie."""
    words = (_read(pid, "cmdline") or b"").split(b"\0")
    return [word.decode(errors="replace") for word in words if word]


def network_namespace(pid: int) -> int | None:
    """The inode of a process's network namespace; None if it is gone or not ours to see."""
    try:
        return Path(f"/proc/{pid}/ns/net").stat().st_ino
    except OSError:
        return None


def working_directory(pid: int) -> Path | None:
    """Where a process works; None if it is gone or not ours to see."""
    try:
        return Path(f"/proc/{pid}/cwd").readlink()
    except OSError:
        return None


def status(key: str, of: int | str = "self") -> str | None:
    """The first word of a line of `/proc/OF/status`, such as `CapEff`; None if it is not there."""
    start = f"{key}:".encode()
    lines = (_read(of, "status") or b"").splitlines()
    return next((line.split()[1].decode() for line in lines if line.startswith(start)), None)


def boot_id() -> str:
    """Which boot of the machine this is, to which process numbers and starts belong; empty if not known.

    Linux counts its monotonic clock from the boot, so that two processes of one boot read the same clock.
    """
    return (_read("sys", "kernel/random/boot_id") or b"").decode().strip()


def open_pidfd(process: ProcessId) -> int | None:
    """Open a pidfd of this very process; None if it has ended.

    Raises:
        OSError: It cannot be opened, for example because we have too many open files. The process may run.
    """
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    except OSError:
        if process.alive():
            raise
        return None  # the number is now that of a thread, which has no pidfd
    try:
        # Looked at after it was opened: from here on the number cannot be another's.
        alive = process.alive()
    except OSError:
        os.close(handle)
        raise
    if alive:
        return handle
    os.close(handle)
    return None


def send_signal(process: ProcessId, number: signal.Signals) -> bool:
    """Send a signal to this very process; False if it is gone or not ours to signal.

    Raises:
        OSError: It could not be sent, for example because we have too many open files.
    """
    handle = open_pidfd(process)
    if handle is None:
        return False
    try:
        signal.pidfd_send_signal(handle, number)
    except (ProcessLookupError, PermissionError):
        return False
    finally:
        os.close(handle)
    return True


def wait_gone(processes: Iterable[ProcessId], timeout_s: float) -> list[ProcessId]:
    """Wait until all are gone, at most `timeout_s`; return those that are not.

    They need not be our children. Those that are stay to be collected.

    Raises:
        OSError: Whether they run cannot be found out, for example because we have too many open files.
    """
    deadline = Deadline(SystemClock(), timeout_s)
    poller = select.poll()
    waiting = list(processes)
    handles: dict[int, ProcessId] = {}
    try:
        while True:
            while waiting and len(handles) < MOST_PIDFDS:
                process = waiting.pop()
                if (handle := open_pidfd(process)) is not None:
                    handles[handle] = process
                    poller.register(handle, select.POLLIN)
            remaining = deadline.remaining()
            if not handles or not remaining:
                return sorted(process for process in (*handles.values(), *waiting) if process.alive())
            for handle, _events in poller.poll(remaining * 1000):
                poller.unregister(handle)
                del handles[handle]
                os.close(handle)
    finally:
        for handle in handles:
            os.close(handle)


def end(
    processes: Iterable[ProcessId],
    grace_s: float,
    *,
    signals: Mapping[ProcessId, signal.Signals] | None = None,
    kill_wait_s: float = 5.0,
) -> list[ProcessId]:
    """End processes: ask all of them, wait up to `grace_s` together, then kill the rest.

    Args:
        processes: Whom to end.
        grace_s: How long they may take to end by themselves.
        signals: Processes that get another signal than SIGTERM.
        kill_wait_s: How long the kernel may take to carry out a kill.

    Returns:
        Those that are still there: another user's, which cannot be signalled and are not waited for, and
        those that were blocked in the kernel for `kill_wait_s` after they were killed.

    Raises:
        OSError: As `send_signal` and `wait_gone`.
    """
    ask = signals or {}
    asked: list[ProcessId] = []
    refused: list[ProcessId] = []
    for process in set(processes):
        sent = send_signal(process, ask.get(process, signal.SIGTERM))
        (asked if sent else refused).append(process)
    left = wait_gone(asked, grace_s)
    for process in left:
        send_signal(process, signal.SIGKILL)
    return sorted([*wait_gone(left, kill_wait_s), *(each for each in refused if each.alive())])


def local_addresses(trie: str) -> list[str]:
    """Return the IPv4 addresses of a network namespace beside loopback, from its `/proc/net/fib_trie`."""
    return sorted(set(_local(trie)))


def own_addresses() -> list[str]:
    """Return the IPv4 addresses of this process's network namespace beside loopback."""
    return local_addresses((_read("self", "net/fib_trie") or b"").decode())


def _read(of: int | str, name: str) -> bytes | None:
    """The content of a file of `/proc/OF`; None if the process is gone, or not ours to see."""
    try:
        return _content(of, name)
    except OSError:
        return None


def _content(of: int | str, name: str) -> bytes:
    with open(f"/proc/{of}/{name}", "rb", buffering=0) as file:  # noqa: PTH123  # read for every process
        return file.read()


def _local(trie: str) -> Iterator[str]:
    address = ""
    for line in trie.splitlines():
        words = line.split()
        if words[:1] == ["|--"]:
            address = words[1]
        elif words[:3] == ["/32", "host", "LOCAL"] and not address.startswith(("127.", "169.254.")):
            yield address
