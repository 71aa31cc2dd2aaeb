"""What a user asks of a run, besides the scenario."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["RunOptions"]


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
