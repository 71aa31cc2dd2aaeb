"""The traffic of a run: what its nodes are given, and the summary of its rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.scenario import RunPlan
from orchestrator.traffic import FILE, expected, summarise, to_bytes

__all__ = ["traffic_files", "traffic_summary"]


def traffic_files(plan: RunPlan) -> dict[str, bytes]:
    """Return the file that tells nodes what to send; none if there is no traffic."""
    return {FILE: to_bytes(plan.traffic)} if plan.traffic else {}


def traffic_summary(
    plan: RunPlan, seed: int, rows: Iterable[Mapping[str, Any]]
) -> tuple[Mapping[str, Any], ...]:
    """Return what became of each entry of the traffic."""
    return tuple(summarise([expected(entry, seed) for entry in plan.traffic], rows))
