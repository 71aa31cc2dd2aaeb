"""What a user asks of a run, besides the scenario, and the topology that it is brought up with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import UsageError
from orchestrator.scenario import Scenario

__all__ = ["RunOptions", "topology_of"]


@dataclass(frozen=True)
class RunOptions:
    """What the user asked for, besides the scenario.

    Attributes:
        params: Values by parameter, as text or as Python values.
        results: The folder in which the run gets a folder of its own; `results` unless given.
        seed: The run's seed; the lab's unless given.
        timeout_s: The run's time limit; the scenario's unless given.
        folder: The run's own folder, whatever `results` says.
        origin: Where scenario and topology come from, if they are copies; see `manifest.origin_facts`.
    """

    params: Mapping[str, object]
    results: Path | None = None
    seed: int | None = None
    timeout_s: float | None = None
    folder: Path | None = None
    origin: Mapping[str, Any] | None = None


def topology_of(wanted: Scenario, file: Path | None) -> Path:
    """The topology file to bring up for a run.

    Raises:
        UsageError: There is none.
    """
    found = file or wanted.topology
    if found is None:
        raise UsageError(
            f"no lab is up, and scenario {wanted.name} names no topology",
            id="run.no-lab",
            hint="`--topology FILE` brings one up for the run; `nm up FILE` one that stays",
        )
    return found
