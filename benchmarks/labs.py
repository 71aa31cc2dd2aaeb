"""Run labs through the command `nm`, with its JSON output and time limits.

Names of labs made by benchmarks begin with `nmbench`. `lab()` always ends with `nm down`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks.commands import Finished, run
from benchmarks.errors import BenchmarkError, CommandFailed, NotRunnable
from benchmarks.proc import descendants, processes_with_environment
from orchestrator import procfs

__all__ = ["Backend", "RunningLab", "lab", "nm", "program", "remove_leftovers", "topology"]

Backend = Literal["native", "docker"]

_PREFIX = "nmbench"
_DOWN_SECONDS = 180.0
_RUN_SECONDS = 180.0
_numbers = itertools.count(1)


@dataclass(slots=True)
class RunningLab:
    """A lab that is up.

    Attributes:
        name: Its name.
        backend: Where it runs.
        up_seconds: Wall time of `nm up`, from the start of the program to its end.
        status: What `nm up -o json` printed.
        down_seconds: Wall time of `nm down`, once it is down.
    """

    name: str
    backend: Backend
    up_seconds: float
    status: Mapping[str, Any]
    down_seconds: float | None = field(default=None)

    def address(self, node: int) -> str:
        """Return a node's address."""
        return str(next(entry["address"] for entry in self.status["nodes"] if entry["id"] == node))

    def execute(self, node: int, *argv: str, timeout: float) -> Finished:
        """Run a command in a node with `nm exec`; any exit code is accepted."""
        return nm("exec", "-n", self.name, str(node), "--", *argv, timeout=timeout, check=False)

    def scenario(self, name: str | Path, *params: str) -> dict[str, Any]:
        """Run a scenario and return its JSON, with the wall time of the program as `program_seconds`.

        Raises:
            CommandFailed: It could not run, or a check of it failed.
        """
        words = ["run", "scenario", str(name), "-n", self.name, "-o", "json"]
        for param in params:
            words += ["--param", param]
        with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}-") as folder:
            finished = nm(*words, "--results", folder, timeout=_RUN_SECONDS, check=False)
        if finished.exit_code != 0:
            message = " / ".join(finished.stderr.strip().splitlines()[-3:])
            raise CommandFailed(f"scenario {name} ended with {finished.exit_code}: {message}")
        return {**json.loads(finished.stdout), "program_seconds": finished.seconds}

    def processes(self) -> dict[str, list[int]]:
        """Return the processes of a native lab by part: postgres, controller, host.

        A part is found by NM_LAB and NM_PART in its environment. Postgres workers overwrite theirs, so
        descendants are counted for the part of their ancestor.
        """
        parts: dict[str, list[int]] = {}
        for pid in processes_with_environment("NM_LAB", self.name):
            part = procfs.environment(pid).get("NM_PART", "other")
            parts[part] = sorted({*parts.get(part, []), pid, *descendants(pid)})
        return parts

    def down(self) -> float:
        """Take the lab down and return how long that took."""
        if self.down_seconds is None:
            self.down_seconds = nm("down", "-n", self.name, timeout=_DOWN_SECONDS).seconds
        return self.down_seconds


def remove_leftovers() -> list[str]:
    """Take down labs named `nmbench-…` whose benchmark process is gone, and return their names."""
    listed = nm("labs", "-o", "json", timeout=60, check=False)
    if listed.exit_code != 0:
        return []
    removed = []
    for entry in json.loads(listed.stdout):
        prefix, _, rest = str(entry["lab"]).partition("-")
        owner = rest.partition("-")[0]
        if prefix == _PREFIX and owner.isdecimal() and not Path(f"/proc/{owner}").exists():
            nm("down", "-n", entry["lab"], timeout=_DOWN_SECONDS, check=False)
            removed.append(entry["lab"])
    return removed


def topology(kind: str, **values: object) -> str:
    """Return the text of a topology file with one generator, such as `topology("ring", n_nodes=4)`."""
    inside = ", ".join(f"{key}: {value}" for key, value in values.items())
    return f"seed: 1\ntopology: {{type: {kind}, {inside}}}\n"


@contextlib.contextmanager
def lab(
    text: str, *, backend: Backend = "native", timeout: float, options: Sequence[str] = ()
) -> Iterator[RunningLab]:
    """Bring a lab up for the block and take it down after, also when the block fails.

    Args:
        text: The topology file.
        backend: Where the lab runs.
        timeout: Seconds that `nm up` may take.
        options: Further options of `nm up`.

    Raises:
        NotRunnable: `nm` is not installed, or this machine cannot run the backend.
        CommandFailed: The lab did not start.
    """
    name = f"{_PREFIX}-{os.getpid()}-{next(_numbers)}"
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}-") as folder:
        file = Path(folder) / "topology.yaml"
        file.write_text(f"name: {name}\n{text}", encoding="utf-8")
        words = ["up", str(file), "-n", name, "--backend", backend, "-o", "json", *options]
        running: RunningLab | None = None
        try:
            finished = nm(*words, "--timeout", f"{timeout:g}", timeout=timeout + 30, check=False)
            _judge_start(finished)
            running = RunningLab(name, backend, finished.seconds, json.loads(finished.stdout))
            yield running
        finally:
            if running is None or running.down_seconds is None:
                with contextlib.suppress(BenchmarkError):
                    nm("down", "-n", name, timeout=_DOWN_SECONDS, check=False)


def nm(*words: str, timeout: float, check: bool = True) -> Finished:
    """Run `nm` with these arguments."""
    return run([*program(), *words], timeout=timeout, check=check)


def program() -> list[str]:
    """Return the `nm` of this Python environment, not the one of binutils that PATH may have.

    Raises:
        NotRunnable: It is not installed.
    """
    installed = Path(sys.executable).with_name("nm")
    if installed.exists():
        return [str(installed)]
    if importlib.util.find_spec("orchestrator.cli") is not None:
        return [sys.executable, "-m", "orchestrator.cli"]
    raise NotRunnable("the testbed is not installed in this environment (`make setup`)")


def _judge_start(finished: Finished) -> None:
    if finished.exit_code == 0:
        return
    message = " / ".join((finished.stderr or finished.stdout).strip().splitlines()[-3:])
    try:
        error = json.loads(finished.stderr.strip().splitlines()[-1])["error"]
        message = error["message"]
    except (ValueError, LookupError, TypeError):
        pass  # not the JSON of an nm error: use the last lines of the output
    if finished.exit_code == 4:
        raise NotRunnable(message)
    raise CommandFailed(f"`nm up` ended with {finished.exit_code}: {message}")
