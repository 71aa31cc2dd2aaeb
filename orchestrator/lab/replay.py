"""Repeat a run from its bundle alone, and say what differs.

    bundle → scenario, topology, parameters, seed → a lab of its own → run → rows compared with the bundle's

The lab is brought up from the resolved topology in the bundle, under a name that nothing else has, and taken
down afterwards. A run on the simulated network is repeated there, and its rows have to be identical.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator import topology
from orchestrator.deploy.home import Home
from orchestrator.deploy.state import Backend
from orchestrator.errors import UsageError
from orchestrator.lab.cleanup import run_shielded
from orchestrator.lab.down import take_down
from orchestrator.lab.run import OnEvent, run_scenario
from orchestrator.lab.run_options import RunOptions
from orchestrator.lab.simulated import BACKEND, simulate_scenario
from orchestrator.lab.up import UpOptions, bring_up
from orchestrator.results import Bundle, RunOutcome, read_rows
from orchestrator.results.compare import environment_differences
from orchestrator.results.replayed import row_differences
from orchestrator.scenario import Scenario, load

__all__ = ["Replay", "replay"]

_OF_THE_COPY = ("origin.", "files.")
"""What differs because the replay runs a copy."""


@dataclass(frozen=True)
class Replay:
    """A run that was repeated.

    Attributes:
        of: The id of the run that was repeated.
        before: Its verdict.
        outcome: The new run.
        differences: Columns of rows that differ; see `results.replayed`.
        environment: Keys of the manifests that differ.
    """

    of: str
    before: str
    outcome: RunOutcome
    differences: tuple[Mapping[str, Any], ...]
    environment: tuple[Mapping[str, Any], ...]

    @property
    def exact(self) -> bool:
        """Whether times and rates have to be the same as well: those of the simulated network do."""
        return self.outcome.backend == BACKEND

    @property
    def same(self) -> bool:
        """Whether the verdict is the same and no column differs, except for times and rates of labs."""
        tolerated = all(each["time"] and not self.exact for each in self.differences)
        return self.before == self.outcome.verdict and tolerated

    def as_json(self) -> dict[str, Any]:
        """The replay as `nm replay -o json` prints it."""
        return {
            "of": self.of,
            "replay": self.outcome.run,
            "same": self.same,
            "verdict_before": self.before,
            "verdict": self.outcome.verdict,
            "results": self.outcome.results,
            "differences": [dict(each) for each in self.differences],
            "environment": [dict(each) for each in self.environment],
        }


async def replay(
    bundle: Bundle,
    home: Home,
    *,
    backend: Backend | None = None,
    results: Path | None = None,
    progress: Callable[[str], None] = lambda _what: None,
    on_event: OnEvent = lambda _event: None,
) -> Replay:
    """Repeat a run.

    Args:
        bundle: The run.
        home: Where its lab lives meanwhile.
        backend: What carries the lab; what carried the first one unless given.
        results: The folder in which the replay gets a folder of its own; `results` unless given.
        progress: Called with a description of the current step.
        on_event: Told what happens in the run.

    Raises:
        UsageError: The bundle is that of a sweep, of another version, incomplete or changed.
        StartFailed: The lab did not become ready.
    """
    document = bundle.document
    _require_run(bundle)
    meant = topology.load(bundle.path / "topology.yaml")
    _require_unchanged(bundle, meant)
    scenario = _scenario(bundle)
    params = _params(bundle, scenario)
    run = RunOptions(
        params=params,
        results=results,
        seed=document["seed"],
        timeout_s=document["timeout"],
        origin={**document["origin"], "replay_of": document["run"]},
    )
    if (backend or document["backend"]) == BACKEND:
        outcome = await simulate_scenario(scenario, meant, run, progress, on_event)
    else:
        outcome = await _in_lab(bundle, home, backend, meant, scenario, run, progress, on_event)
    environment = environment_differences(document, outcome.document())
    return Replay(
        of=str(document["run"]),
        before=str(document["verdict"]),
        outcome=outcome,
        differences=tuple(row_differences(read_rows(bundle), outcome.rows)),
        environment=tuple(each for each in environment if not each["key"].startswith(_OF_THE_COPY)),
    )


async def _in_lab(
    bundle: Bundle,
    home: Home,
    backend: Backend | None,
    meant: topology.Topology,
    scenario: Scenario,
    run: RunOptions,
    progress: Callable[[str], None],
    on_event: OnEvent,
) -> RunOutcome:
    """Repeat a run in a lab that is brought up for it and taken down afterwards."""
    document = bundle.document
    kept = document["topology"]
    options = UpOptions(
        name=f"replay-{secrets.token_hex(3)}",
        backend=backend or document["backend"],
        external=tuple(map(str, kept["external"])),
        processes=kept["processes"] if (backend or document["backend"]) == "native" else None,
    )
    up = await bring_up(home, meant, options, progress)
    try:
        return await run_scenario(up.directory, up.state, scenario, run, on_event)
    finally:
        await run_shielded(take_down(home, str(options.name), progress))


def _require_run(bundle: Bundle) -> None:
    if bundle.kind == "sweep":
        raise UsageError(
            f"{bundle.path} is a sweep, and a single run is repeated",
            id="replay.sweep",
            found=str(bundle.path),
            expected=f"one of its runs, such as {bundle.path / 'c01-r1'}",
        )
    bundle.require_replayable()
    wanted = ("run", "seed", "params", "timeout", "topology", "origin", "backend", "verdict")
    missing = [key for key in wanted if key not in bundle.document]
    missing += [
        name for name in ("topology.yaml", "scenario/scenario.yaml") if not (bundle.path / name).is_file()
    ]
    if missing:
        raise UsageError(
            f"the bundle {bundle.path} is incomplete: {', '.join(missing)} is missing",
            id="replay.incomplete",
            found=str(bundle.path),
        )


def _require_unchanged(bundle: Bundle, meant: topology.Topology) -> None:
    """Check that the topology is the one that the run had."""
    stated, found = bundle.document["topology"]["sha256"], (bundle.path / "topology.yaml").read_bytes()
    if hashlib.sha256(found).hexdigest() != stated:
        raise UsageError(
            f"{bundle.path / 'topology.yaml'} is not the topology {meant.name} of the run: it was changed",
            id="replay.changed",
            found=hashlib.sha256(found).hexdigest(),
            expected=stated,
            hint="`nm run scenario --topology FILE` runs with another topology",
        )


def _scenario(bundle: Bundle) -> Scenario:
    # Its name may be that of its folder, which is `scenario` for every copy.
    return replace(load(bundle.path / "scenario", copied=True), name=str(bundle.document["scenario"]))


def _params(bundle: Bundle, scenario: Scenario) -> dict[str, Any]:
    """The parameters, with the files that they name: those in the bundle, or where they were."""
    params = dict(bundle.document["params"])
    for name, file in bundle.document.get("files", {}).items():
        path = bundle.path / file["kept"] if file["kept"] else Path(file["path"])
        try:
            with path.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
        except OSError as error:
            raise UsageError(
                f"the parameter `{name}` of {scenario.name} is the file {path}, which cannot be read: "
                f"{error.strerror}",
                id="replay.file",
                found=str(path),
                expected=f"a file of {file['bytes']} bytes with SHA-256 {file['sha256']}",
                hint="large files are not in the bundle; put it where it was",
            ) from error
        if digest != file["sha256"]:
            raise UsageError(
                f"the parameter `{name}` of {scenario.name} is the file {path}, which has changed since",
                id="replay.changed",
                found=digest,
                expected=file["sha256"],
            )
        params[name] = str(path.resolve())
    return params
