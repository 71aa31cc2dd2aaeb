"""Start processes with a lab's labels, and find them by label, namespace or working directory.

Every process of a lab carries three labels in its environment (lab, run, home), and its children inherit
them, so that a scan of `/proc` finds all of them, even without the state file.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator import procfs
from orchestrator.errors import StartFailed
from orchestrator.procfs import ProcessId

LAB_LABEL = "NM_LAB"
RUN_LABEL = "NM_RUN"
HOME_LABEL = "NM_HOME"
PART_LABEL = "NM_PART"

_children: list[subprocess.Popen[bytes]] = []
"""What this process started, kept so that an exit code can be asked for and no zombie stays behind."""


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
    identity = procfs.identify(child.pid)
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
    candidates = (_read_labels(pid, home) for pid in _others())
    return sorted(each for each in candidates if each and lab in (None, each.lab))


def in_namespaces(inodes: Iterable[int]) -> dict[ProcessId, int]:
    """Processes whose network namespace is one of `inodes`, whatever their environment says; and which."""
    wanted = set(inodes)
    found = {}
    for pid in _others() if wanted else ():
        inode = procfs.network_namespace(pid)
        if inode in wanted and (identity := procfs.identify(pid)) and identity.alive():
            found[identity] = inode
    return found


def working_under(folder: Path) -> list[ProcessId]:
    """Processes whose working directory is inside `folder`, such as a database's back ends.

    Postgres overwrites the environment of its back ends with their titles, so labels do not find those.
    """
    inside = (pid for pid in _others() if (at := procfs.working_directory(pid)) and at.is_relative_to(folder))
    found = (procfs.identify(pid) for pid in inside)
    return sorted(each for each in found if each and each.alive())


def catches(process: ProcessId, number: signal.Signals) -> bool:
    """Whether the process has a handler for a signal."""
    caught = procfs.status("SigCgt", of=process.pid)
    return caught is not None and bool(int(caught, 16) >> (number - 1) & 1)


def end(
    processes: Iterable[ProcessId],
    grace_s: float,
    signals: Mapping[ProcessId, signal.Signals] | None = None,
) -> list[ProcessId]:
    """End processes as `procfs.end` does, and collect those that are children of ours."""
    try:
        return procfs.end(processes, grace_s, signals=signals)
    finally:
        _collect()


def cannot_end_error(process: ProcessId, what: str) -> StartFailed:
    """The error that a process could not be ended; `what` says which one it is."""
    return StartFailed(
        f"{what}, process {process.pid}, cannot be ended",
        id="start.stuck",
        found=str(process.pid),
        hint="it is stuck in the kernel, or another user's",
    )


def _collect() -> None:
    for child in _children:
        child.poll()


def _others() -> list[int]:
    """All processes but ourselves and our ancestors, which are spared: `nm` may run inside the lab."""
    ours = procfs.ancestry()
    return [pid for pid in procfs.pids() if pid not in ours]


def _read_labels(pid: int, home: Path) -> LabelledProcess | None:
    values = procfs.environment(pid, having=f"{HOME_LABEL}={home}")
    lab, run = values.get(LAB_LABEL), values.get(RUN_LABEL)
    if not (lab and run and values.get(HOME_LABEL) == str(home)):
        return None
    identity = procfs.identify(pid)
    if identity is None or not identity.alive():
        return None
    command = " ".join(procfs.command(pid))[:120] or "?"
    return LabelledProcess(identity, lab, run, str(home), values.get(PART_LABEL, ""), command)
