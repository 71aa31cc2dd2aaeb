"""What a run's folder keeps so that the run can be judged, and repeated from its folder alone.

    run.json        parameters, seed, versions, host, and where scenario and topology come from
    topology.yaml   the resolved topology, with the files that it names
    scenario/       the scenario's files
    files/          the files that parameters name, up to `KEPT_BYTES` each

`FORMAT` is the version of this layout; `orchestrator.results.bundle` reads it.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from orchestrator import clock, topology
from orchestrator.deploy.state import NodeNote
from orchestrator.lab.cleanup import in_daemon_thread
from orchestrator.lab.host_facts import host_facts
from orchestrator.results import FORMAT, ResultsFolder, RunOutcome
from orchestrator.scenario import RunPlan, Scenario

__all__ = ["KEPT_BYTES", "RunPlace", "open_results", "origin_facts", "repository"]

KEPT_BYTES = 16 * 1024 * 1024
"""The largest file of a parameter that is copied; of a larger one, size and digest are kept."""

GIT_S = 2.0
"""How long git may take to say what a folder is at; what it has not said by then is unknown."""


class RunPlace(Protocol):
    """Where a run takes place: a lab that is up, or the simulated network."""

    @property
    def lab(self) -> str:
        """Its name."""

    @property
    def backend(self) -> str:
        """What carries it."""

    @property
    def run(self) -> str:
        """The start of the lab; empty where nothing is started."""

    @property
    def topology(self) -> str:
        """The topology file as given, for people."""

    @property
    def nodes(self) -> Sequence[NodeNote]:
        """Its nodes, as the commands know them."""

    @property
    def processes(self) -> int:
        """Host processes that the nodes are spread over."""


async def open_results(
    state: RunPlace,
    meant: topology.Topology,
    scenario: Scenario,
    plan: RunPlan,
    *,
    seed: int,
    parent: Path,
    folder: Path | None = None,
    origin: Mapping[str, Any] | None = None,
    time: clock.Clock | None = None,
) -> tuple[RunOutcome, ResultsFolder]:
    """Make the folder of a run that is about to start.

    Args:
        state: Where it runs.
        meant: Its topology.
        scenario: What is run.
        plan: How.
        seed: The run's seed.
        parent: Where the run gets a folder of its own.
        folder: The run's own folder, instead.
        origin: What `origin_facts` said, where scenario and topology are copies.
        time: Where the times of events come from, if not from the clock of this machine.

    Raises:
        HostNotFit: The folder cannot be written.
    """
    run = f"{scenario.name}-{secrets.token_hex(3)}"
    stamp = clock.utc_text(clock.SystemClock().wall())
    path = folder or parent / f"{stamp[:19].replace(':', '').replace('T', '-')}-{run}"
    resolved = topology.dump(meant)
    if origin is None:
        origin = await in_daemon_thread(lambda: origin_facts(scenario.folder, state.topology))
    kept, files = await in_daemon_thread(lambda: _keep_files(plan.uploads))
    details = {
        "format": FORMAT,
        "params": dict(plan.params),
        "started": stamp,
        "timeout": plan.timeout,
        **host_facts(state.run),
        "topology": {
            "name": meant.name,
            "sha256": hashlib.sha256(resolved.encode()).hexdigest(),
            "external": [node.id for node in state.nodes if node.external],
            "processes": state.processes,
        },
        "origin": dict(origin),
        "files": kept,
        "plots": [plot.as_json() for plot in plan.plots],
    }
    base = RunOutcome(run, scenario.name, state.lab, state.backend, seed, "error", str(path), details=details)
    code = {f"scenario/{name}": content for name, content in scenario.files().items()}
    everything: dict[str, str | bytes] = {**topology.traces(meant), **files, **code}
    opened = await in_daemon_thread(
        lambda: ResultsFolder(path.absolute(), base.document(), resolved, time, files=everything)
    )
    return base, opened


def origin_facts(scenario: Path, file: str) -> dict[str, Any]:
    """Say where a scenario and a topology file are, and what their git repositories are at.

    Args:
        scenario: The scenario's folder.
        file: The topology file as it was given; none where it was no file.
    """
    at = Path(file).absolute() if file and Path(file).is_file() else None
    return {
        "scenario": {"path": str(scenario.absolute()), **repository(scenario)},
        "topology": {"path": str(at) if at else None, **repository(at.parent if at else None)},
    }


def repository(folder: Path | None) -> dict[str, Any]:
    """The commit of the git repository that a folder is in, and whether anything in it was changed.

    Both are null where there is no repository, no git, or git refuses or takes too long.
    """
    unknown: dict[str, Any] = {"commit": None, "dirty": None}
    commit = _git(folder, "rev-parse", "HEAD") if folder else None
    if not commit:
        return unknown
    changed = _git(folder, "status", "--porcelain", "--untracked-files=normal", "--", ":/")
    return {"commit": commit, "dirty": None if changed is None else bool(changed)}


def _git(folder: Path | None, *words: str) -> str | None:
    # The repository's settings may name a program that `status` starts; it is left out.
    command = ["git", "-c", "core.fsmonitor=false", "--no-optional-locks", "-C", str(folder), *words]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=GIT_S,
            check=False,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _keep_files(uploads: Mapping[str, Path]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Describe the files of parameters for `run.json`; return those that are kept, by their names."""
    described: dict[str, Any] = {}
    kept: dict[str, bytes] = {}
    for param, path in uploads.items():
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = path.stat().st_size
        name = f"files/{param}-{path.name}" if size <= KEPT_BYTES else None
        described[param] = {"path": str(path), "bytes": size, "sha256": digest, "kept": name}
        if name is not None:
            kept[name] = path.read_bytes()
    return described, kept
