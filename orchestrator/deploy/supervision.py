"""Start, stop and query the supervisor of a native lab.

`nm up` holds the supervisor's lock from before the first part is started until the supervisor takes it over,
so that no part starts a second supervisor meanwhile. See `orchestrator.supervisor.files`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator import procfs
from orchestrator.deploy import processes
from orchestrator.deploy.home import LabDirectory, unwritable
from orchestrator.deploy.state import LabState, write_whole
from orchestrator.supervisor import files

__all__ = [
    "Launch",
    "Report",
    "comes_back",
    "end",
    "ensure",
    "hand_over",
    "hold",
    "launch",
    "renew",
    "report",
    "wanted",
]

END_S = 5.0
"""How long the kernel may take to end a supervisor that was killed."""


@dataclass(frozen=True)
class Launch:
    """How every part of a native lab is started: by `nm up`, by the supervisor, or by a later `nm up`.

    Attributes:
        python: The interpreter.
        environment: What `nm up` had in its environment, and what all parts get besides.
    """

    python: str
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Report:
    """The report of the supervisor, or of its predecessor.

    Attributes:
        running: Whether it runs.
        process: Its number.
        restarts: How often it started which part again.
        left_dead: The parts that it does not restart any more.
    """

    running: bool = False
    process: int = 0
    restarts: Mapping[str, int] = field(default_factory=dict)
    left_dead: tuple[str, ...] = ()

    def starts(self, part: str) -> bool:
        """Whether a part that does not run is going to be started again."""
        return self.running and part not in self.left_dead

    def __str__(self) -> str:
        again = ", ".join(f"{part} {count} x" for part, count in sorted(self.restarts.items()))
        return f"process {self.process}" + (f", started again: {again}" if again else "")


def wanted(state: LabState) -> bool:
    """Whether the lab is to have a supervisor; the docker engine starts containers again by itself."""
    return state.backend == "native" and state.supervised


def launch(directory: LabDirectory, state: LabState) -> Launch:
    """How the lab's parts are started; recorded by the first start.

    A later one may come from another shell, or from a supervisor, and parts must not differ for it.
    """
    path = files.launch_file(directory.path)
    try:
        raw = json.loads(path.read_text())
        return Launch(raw["python"], raw["environment"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    marks = processes.labels(state.lab, state.run, directory.home, "")
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": _import_path(), **marks}
    made = Launch(sys.executable, environment)
    write_whole(path, json.dumps({"python": made.python, "environment": environment}))
    return made


def hold(directory: LabDirectory) -> int | None:
    """Hold the supervisor's lock until `hand_over`, or until the descriptor is closed."""
    return files.take(directory.path)


def hand_over(directory: LabDirectory, place: int) -> None:
    """Start the supervisor of a lab that is up, with the lock that `hold` returned."""
    _mark(directory)
    files.start(directory.path, place)


def ensure(directory: LabDirectory, state: LabState) -> None:
    """Start the supervisor if it has died; one that was ended on purpose is left alone."""
    if wanted(state) and state.phase == "up":
        files.ensure(directory.path)


def renew(directory: LabDirectory, state: LabState, *, forget: bool) -> None:
    """See that the lab has a supervisor; with `forget`, one that knows of no earlier deaths."""
    if not wanted(state):
        return
    launch(directory, state)
    _mark(directory)
    if forget:
        _kill(directory)
    files.ensure(directory.path)


def end(directory: LabDirectory) -> None:
    """End the supervisor for good, whatever it is doing, before the lab is taken down.

    Raises:
        StartFailed: It cannot be ended.
    """
    if directory.exists():
        with suppress(OSError):  # another user's; the next step reports it
            files.marker(directory.path).unlink(missing_ok=True)
    _kill(directory)


def report(directory: LabDirectory, state: LabState) -> Report:
    """What the supervisor of a lab did; empty when it has none."""
    if not wanted(state):
        return Report()
    running = files.marker(directory.path).exists() and files.is_held(directory.path)
    try:
        raw = json.loads(files.report_file(directory.path).read_text())
        return Report(running, raw["pid"], dict(raw["restarts"]), tuple(raw["left_dead"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Report(running)


def comes_back(directory: LabDirectory, state: LabState, part: str) -> bool:
    """Whether waiting for a part of a lab that is up is worth it: if it died, it is started again."""
    if state.phase != "up" or not state.supervised:
        return False
    return state.backend == "docker" or report(directory, state).starts(part)


def _mark(directory: LabDirectory) -> None:
    try:
        files.marker(directory.path).touch(mode=0o600)
    except OSError as error:
        raise unwritable(directory.run, error) from error


def _kill(directory: LabDirectory) -> None:
    """Kill it, and the process by which it starts a part right now; what that one started has labels, too."""
    found = [each.identity for each in _found(directory)]
    for process in found:
        procfs.send_signal(process, signal.SIGKILL)
    left = procfs.wait_gone(found, END_S)
    if left:
        raise processes.cannot_end_error(left[0], f"the supervisor of lab {directory.name}")


def _found(directory: LabDirectory) -> list[processes.LabelledProcess]:
    everybody = processes.labelled(directory.home, directory.name)
    return [each for each in everybody if each.part == files.PART]


def _import_path() -> str:
    """Our own import path, so that a checkout that is not installed starts its own parts and no others."""
    package = str(Path(__file__).resolve().parents[2])
    inherited = os.environ.get("PYTHONPATH", "")
    return f"{package}{os.pathsep}{inherited}" if inherited else package
