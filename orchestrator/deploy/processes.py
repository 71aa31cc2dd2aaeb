"""Start processes with a lab's labels, find them by label, and terminate them by identity.

The kernel reuses process numbers, so a process is identified by its number and its start time. Every process
of a lab carries three labels in its environment (lab, run, home), and its children inherit them, so that a
scan of `/proc` finds all of them, even without the state file.

Signals are sent through a pidfd that is opened first and checked afterwards, so that the number cannot have
been reused in between.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.clock import Deadline, SystemClock

LAB_LABEL = "NM_LAB"
RUN_LABEL = "NM_RUN"
HOME_LABEL = "NM_HOME"
PART_LABEL = "NM_PART"

_children: list[subprocess.Popen[bytes]] = []
"""What this process started, kept so that an exit code can be asked for and no zombie stays behind."""


@dataclass(frozen=True, order=True)
class ProcessId:
    """One process and no other: its number and its start, in clock ticks since boot."""

    pid: int
    started: int

    def alive(self) -> bool:
        """Whether this very process still runs; a zombie does not."""
        stat = _stat(self.pid)
        return stat is not None and stat.started == self.started and stat.state not in "ZX"


@dataclass(frozen=True, order=True)
class LabelledProcess:
    """A process found by its labels."""

    identity: ProcessId
    lab: str
    run: str
    home: str
    part: str
    command: str

    def __str__(self) -> str:
        return f"process {self.identity.pid} ({self.command})"


def labels(lab: str, run: str, home: Path, part: str) -> dict[str, str]:
    """The environment variables that mark a process as a part of a lab."""
    return {LAB_LABEL: lab, RUN_LABEL: run, HOME_LABEL: str(home), PART_LABEL: part}


def identify(pid: int) -> ProcessId | None:
    """The identity of a running process, or None if there is none of that number."""
    stat = _stat(pid)
    return None if stat is None else ProcessId(pid, stat.started)


def spawn(
    argv: Sequence[str],
    *,
    marks: Mapping[str, str],
    log: Path,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> ProcessId:
    """Start a process that outlives us: a session of its own, output appended to `log`, labels set.

    Args:
        argv: The command.
        marks: What `labels` returned.
        log: The file that takes standard output and error.
        environment: Its environment besides the labels; our own unless given. Our umask is not passed on:
            what it writes is writable by its owner alone.
        cwd: Its working directory; `/` unless given, so that it holds no folder of the user's.
    """
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "ab") as output:
        child = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd or "/",
            env={**(os.environ if environment is None else environment), **marks},
            start_new_session=True,
            umask=0o022,
        )
    _children.append(child)
    identity = identify(child.pid)
    assert identity is not None, "a child that nobody waited for keeps its entry in /proc"
    return identity


def exit_code(process: ProcessId) -> int | None:
    """The exit code of a child of ours that ended (negative: the signal), or None if it is not known."""
    _collect()
    return next((child.returncode for child in _children if child.pid == process.pid), None)


def labelled(home: Path, lab: str | None = None) -> list[LabelledProcess]:
    """Every process that carries the labels of `home` (and of `lab`), except ourselves and our ancestors.

    Processes of other users are invisible unless we are root; they cannot be ours either.
    """
    ours = _ancestry()
    candidates = (_read_labels(pid) for pid in _pids() if pid not in ours)
    return sorted(each for each in candidates if each and each.home == str(home) and lab in (None, each.lab))


def in_namespaces(inodes: Iterable[int]) -> dict[ProcessId, int]:
    """Processes whose network namespace is one of `inodes`, whatever their environment says; and which."""
    wanted = set(inodes)
    if not wanted:
        return {}
    ours = _ancestry()
    found = {}
    for pid in _pids():
        try:
            inode = Path(f"/proc/{pid}/ns/net").stat().st_ino
        except OSError:
            continue
        if inode in wanted and pid not in ours and (identity := identify(pid)) and identity.alive():
            found[identity] = inode
    return found


def working_under(folder: Path) -> list[ProcessId]:
    """Processes whose working directory is inside `folder`, such as a database's back ends.

    Postgres overwrites the environment of its back ends with their titles, so labels do not find those.
    """
    ours = _ancestry()
    found = []
    for pid in _pids():
        try:
            cwd = Path(f"/proc/{pid}/cwd").readlink()
        except OSError:
            continue
        if (
            pid not in ours
            and cwd.is_relative_to(folder)
            and (identity := identify(pid))
            and identity.alive()
        ):
            found.append(identity)
    return sorted(found)


def catches(process: ProcessId, number: signal.Signals) -> bool:
    """Whether the process has a handler for a signal."""
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text(errors="replace").splitlines()
        caught = next(line.split()[1] for line in lines if line.startswith("SigCgt:"))
    except (OSError, StopIteration):
        return False
    return bool(int(caught, 16) >> (number - 1) & 1)


def send_signal(process: ProcessId, number: signal.Signals) -> bool:
    """Send a signal to this very process; False if it is gone or not ours to signal."""
    try:
        handle = os.pidfd_open(process.pid)
    except OSError:
        return False
    try:
        if not process.alive():
            return False
        signal.pidfd_send_signal(handle, number)
    except (ProcessLookupError, PermissionError):
        return False
    finally:
        os.close(handle)
    return True


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
        Those that were still there `kill_wait_s` after they were killed: stuck in the kernel, or another
        user's.
    """
    ask = signals or {}
    waiting = [each for each in set(processes) if send_signal(each, ask.get(each, signal.SIGTERM))]
    left = wait_gone(waiting, grace_s)
    for process in left:
        send_signal(process, signal.SIGKILL)
    return wait_gone(left, kill_wait_s)


def wait_gone(processes: Iterable[ProcessId], timeout_s: float) -> list[ProcessId]:
    """Wait until all are gone, at most `timeout_s`; return those that are not.

    They need not be our children: a pidfd becomes readable when its process ends.
    """
    deadline = Deadline(SystemClock(), timeout_s)
    poller = select.poll()
    handles: dict[int, ProcessId] = {}
    try:
        for process in processes:
            try:
                handle = os.pidfd_open(process.pid)
            except OSError:
                continue
            handles[handle] = process
            poller.register(handle, select.POLLIN)
        for handle in [handle for handle, process in handles.items() if not process.alive()]:
            _forget(poller, handles, handle)
        while handles and (remaining := deadline.remaining()):
            for handle, _events in poller.poll(remaining * 1000):
                _forget(poller, handles, handle)
        return sorted(process for process in handles.values() if process.alive())
    finally:
        for handle in handles:
            os.close(handle)
        _collect()


@dataclass(frozen=True)
class _Stat:
    state: str
    parent: int
    started: int


def _stat(pid: int) -> _Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The name in parentheses may itself hold spaces and parentheses; the last one ends it.
    fields = text[text.rindex(")") + 2 :].split()
    return _Stat(state=fields[0], parent=int(fields[1]), started=int(fields[19]))


def _collect() -> None:
    for child in _children:
        child.poll()


def _pids() -> list[int]:
    return [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()]


def _ancestry() -> set[int]:
    """Return our own number and those of our parents, which are spared: `nm` may run inside the lab."""
    chain = set()
    pid = os.getpid()
    while pid > 1 and pid not in chain:
        chain.add(pid)
        stat = _stat(pid)
        pid = stat.parent if stat else 0
    return chain


def _read_labels(pid: int) -> LabelledProcess | None:
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    if LAB_LABEL.encode() not in raw:
        return None
    pairs = (item.partition(b"=") for item in raw.split(b"\0"))
    values = {key.decode(errors="replace"): value.decode(errors="replace") for key, _, value in pairs}
    lab, run, home = values.get(LAB_LABEL), values.get(RUN_LABEL), values.get(HOME_LABEL)
    identity = identify(pid)
    if not (lab and run and home and identity and identity.alive()):
        return None
    return LabelledProcess(identity, lab, run, home, values.get(PART_LABEL, ""), _command(pid))


def _command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return "?"
    return " ".join(word.decode(errors="replace") for word in words if word)[:120]


def _forget(poller: select.poll, handles: dict[int, ProcessId], handle: int) -> None:
    poller.unregister(handle)
    del handles[handle]
    os.close(handle)
