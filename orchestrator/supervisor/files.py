"""The supervisor's files in the lab's folder: lock, report, marker; start it if it is not running.

    supervisor.lock    held while the supervisor runs; the kernel drops it when it ends
    supervisor.json    what it did: how often each part was restarted, and which are not restarted any more
    run/supervised     there is to be a supervisor; `nm down` removes it before anything else
    run/launch.json    the interpreter and the environment that all parts are started with

The holder of the lock starts the supervisor, which inherits the open file and with it the lock. So there is
never a second one, and its end is noticed without its process number.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any

from orchestrator.backoff import Backoff

__all__ = [
    "PART",
    "VARIABLE",
    "ensure",
    "is_held",
    "keep",
    "launch_file",
    "lock_file",
    "marker",
    "report_file",
    "start",
    "take",
]

PART = "supervisor"
"""Its role among the parts of a lab: the value of its label, and the name of its log."""

VARIABLE = "NM_SUPERVISED"
"""Names the lab's folder in the environment of the part that is to start a dead supervisor again."""

FIRST_DELAY_S = 0.5
MAX_DELAY_S = 30.0
STABLE_S = 10.0
"""A supervisor that ended within STABLE_S is started again after a pause, which doubles up to the longest."""

_children: list[Any] = []
"""Supervisors that this process started, kept so that they are collected when they have ended."""


def lock_file(folder: Path) -> Path:
    """The file whose lock the supervisor holds."""
    return folder / "supervisor.lock"


def report_file(folder: Path) -> Path:
    """What the supervisor did so far."""
    return folder / "supervisor.json"


def marker(folder: Path) -> Path:
    """The file that says that there is to be a supervisor."""
    return folder / "run" / "supervised"


def launch_file(folder: Path) -> Path:
    """The interpreter and the environment that parts are started with."""
    return folder / "run" / "launch.json"


def take(folder: Path, *, wait: bool = False) -> int | None:
    """Take the supervisor's lock, and return the open file that holds it.

    Args:
        folder: The lab's folder.
        wait: Wait until the present supervisor is dead.

    Returns:
        The file's descriptor, or None: a supervisor lives, or the folder is gone.
    """
    try:
        handle = os.open(lock_file(folder), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(handle)
        return None
    return handle


def is_held(folder: Path) -> bool:
    """Whether a supervisor lives, or is about to."""
    handle = take(folder)
    if handle is not None:
        os.close(handle)
    return handle is None


def start(folder: Path, handle: int) -> bool:
    """Start the supervisor and hand it the lock; returns at once, without the lock in any case.

    Args:
        folder: The lab's folder.
        handle: What `take` returned.

    Returns:
        Whether it was started; it may end right away if the lab is gone.
    """
    import subprocess

    for child in _children:
        child.poll()
    try:
        launch = json.loads(launch_file(folder).read_text())
        log_file = folder / "logs" / f"{PART}.log"
        # For its owner alone, whatever umask the one has who starts it.
        handle_of_log = os.open(log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle_of_log, "ab") as log:
            child = subprocess.Popen(
                [launch["python"], "-m", "orchestrator.supervisor", str(folder), str(handle)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                env={**launch["environment"], "NM_PART": PART},
                pass_fds=(handle,),
                start_new_session=True,
                umask=0o022,
            )
    except (OSError, ValueError, KeyError, TypeError):
        return False
    finally:
        os.close(handle)
    _children.append(child)
    return True


def ensure(folder: Path) -> bool:
    """Start the supervisor if there is to be one and it is dead; returns whether it was started."""
    if not _may_start(folder):
        return False
    handle = take(folder)
    if handle is None:
        return False
    if not marker(folder).exists():
        os.close(handle)
        return False
    return start(folder, handle)


def keep(folder: Path) -> None:
    """Restart the supervisor whenever it ends, until the marker is removed; runs in a thread of its own."""
    backoff = Backoff(FIRST_DELAY_S, MAX_DELAY_S, factor=2.0)
    while True:
        began = time.monotonic()
        handle = take(folder, wait=True)
        if handle is None or not marker(folder).exists():
            if handle is not None:
                os.close(handle)
            return
        if time.monotonic() - began > STABLE_S:
            backoff.reset()
        if not start(folder, handle) or time.monotonic() - began < STABLE_S:
            time.sleep(backoff.next_delay())


def _may_start(folder: Path) -> bool:
    """Whether there is to be a supervisor, and the lab is of the user that we are."""
    try:
        return marker(folder).stat().st_uid == os.geteuid()
    except OSError:
        return False
