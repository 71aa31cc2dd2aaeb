"""Locks between `nm` processes: `flock` on files in the home directory.

The kernel drops an `flock` when its holder ends, however it ends, so a crash never leaves a lock behind. The
file's text names the holder and its command for error messages; it is never relied on.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from orchestrator.clock import Deadline, SystemClock
from orchestrator.deploy.home import Home, make_folder, unwritable
from orchestrator.errors import LabBusy
from orchestrator.procfs import ProcessId, identify

SUPERVISOR = "the lab's supervisor"
"""How a holder calls itself that starts parts again; everybody waits for it."""

SUPERVISOR_WAIT_S = 30.0
"""How long: it starts a process, or a database that recovers from its log."""

POLL_S = 0.05
"""`flock` has no wait with a limit, so a waiter asks this often; a lab's lock is held for seconds."""

MACHINE_WAIT_S = 20.0
"""The lock of all labs is held for milliseconds; many `nm up` at once on a busy machine stay below this."""


@asynccontextmanager
async def lab_lock(home: Home, lab: str, verb: str, wait_s: float = 0.0) -> AsyncIterator[None]:
    """Hold the lock of `lab` while the body runs.

    Args:
        home: The home the lab is in.
        lab: The lab's name, already checked.
        verb: What we are about to do, for the error of other commands; or `SUPERVISOR`.
        wait_s: How long to wait for the present holder; for a supervisor longer.

    Raises:
        LabBusy: Another process still holds it after `wait_s` seconds.
    """
    handle = _open(home.locks / f"{lab}.lock")
    try:
        deadline = Deadline(SystemClock(), wait_s)
        for_supervisor = Deadline(SystemClock(), max(wait_s, SUPERVISOR_WAIT_S))
        while not _take(handle):
            holder = _holder(handle)
            if (for_supervisor if holder.startswith(SUPERVISOR) else deadline).expired:
                raise _busy(lab, holder)
            await asyncio.sleep(POLL_S)
        _sign(handle, verb if verb == SUPERVISOR else f"`nm {verb}`")
        yield
    finally:
        os.close(handle)


@asynccontextmanager
async def machine_lock(home: Home, name: str, wait_s: float = MACHINE_WAIT_S) -> AsyncIterator[None]:
    """Hold a short lock that all labs of this home share, such as the one for choosing a subnet.

    Raises:
        LabBusy: Another process still holds it after `wait_s` seconds; it is probably stopped.
    """
    handle = _open(home.locks / f"_{name}.lock")
    try:
        deadline = Deadline(SystemClock(), wait_s)
        while not _take(handle):
            if deadline.expired:
                holder = _holder(handle)
                raise LabBusy(
                    f"{holder} has held the lock {name} of all labs for {wait_s:g} s",
                    id="lab.lock-held",
                    found=holder,
                    hint="it holds it for milliseconds otherwise; see whether that process is stopped",
                )
            await asyncio.sleep(POLL_S)
        _sign(handle, f"`nm {name}`")
        yield
    finally:
        os.close(handle)


def lock_holder(home: Home, lab: str) -> str | None:
    """Who holds the lab's lock right now, in words, or None if it is free."""
    path = home.locks / f"{lab}.lock"
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return None if _take(handle) else _holder(handle)
    finally:
        os.close(handle)


def starter(home: Home, lab: str) -> ProcessId | None:
    """The process that holds the lab's lock to bring it up; None if there is none.

    What the file says is not trusted: the kernel's own list of locks has to name the same process.
    """
    path = home.locks / f"{lab}.lock"
    try:
        inode, said = path.stat().st_ino, path.read_text()
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        # `1: FLOCK  ADVISORY  WRITE 4711 08:01:1234 0 EOF`; one that waits has an arrow in second place.
        words = line.split()
        if words[1] == "FLOCK" and words[5].endswith(f":{inode}") and said == _signature("`nm up`", words[4]):
            return identify(int(words[4]))
    return None


def _open(path: Path) -> int:
    try:
        make_folder(path.parent, 0o711)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise unwritable(path, error) from error


def _take(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sign(handle: int, who: str) -> None:
    os.ftruncate(handle, 0)
    os.pwrite(handle, _signature(who, os.getpid()).encode(), 0)


def _signature(who: str, pid: int | str) -> str:
    return f"{who}, process {pid}"


def _holder(handle: int) -> str:
    return os.pread(handle, 200, 0).decode(errors="replace") or "another process"


def _busy(lab: str, holder: str) -> LabBusy:
    return LabBusy(
        f"lab {lab} is busy: {holder} is working on it",
        found=holder,
        hint="wait for it to end, or interrupt it; a crashed `nm` never leaves the lab busy",
    )
