"""The traffic of a run: what its nodes are given, and the summary of its rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.scenario import RunPlan
from orchestrator.traffic import FILE, ROLE, expected, flows_of, summarise, to_bytes

__all__ = ["traffic_files", "traffic_nodes", "traffic_summary"]


def traffic_files(plan: RunPlan) -> dict[str, bytes]:
    """Return the file that tells nodes what to send; none if there is no traffic."""
    return {FILE: to_bytes(plan.traffic)} if plan.traffic else {}


def traffic_nodes(plan: RunPlan, seed: int) -> dict[str, tuple[int, ...]]:
    """Return the nodes that report flows, as the nodes of a role; none if there is no traffic.

    A flow is reported by the node that opens its connection.
    """
    found = {
        flow.dst if entry.pulls else flow.src for entry in plan.traffic for flow in flows_of(entry, seed)
    }
    return {ROLE: tuple(sorted(found))} if plan.traffic else {}


def traffic_summary(
    plan: RunPlan, seed: int, rows: Iterable[Mapping[str, Any]]
) -> tuple[Mapping[str, Any], ...]:
    """Return what became of each entry of the traffic."""
    return tuple(summarise([expected(entry, seed) for entry in plan.traffic], rows))
