"""Print what a run would do, and find the topology that it would have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.cli.common import Output, emit, notify, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.impairment import LinkSpec
    from orchestrator.protocol.messages import TimelineChange

__all__ = ["show_plan"]


def show_plan(
    scenario: str,
    lab: str | None,
    file: Path | None,
    params: Mapping[str, str],
    timeout: float | None,
    output: Output,
    seed: int | None = None,
    *,
    simulate: bool = False,
) -> None:
    """Print what a run would do to links and nodes, and when.

    The topology is that of the lab that is up or of a file; with `simulate` that of a file, and what the
    simulated network does not have is refused.
    """
    from orchestrator import topology
    from orchestrator.errors import LabNotFound
    from orchestrator.lab import Lab
    from orchestrator.lab.run_options import topology_of
    from orchestrator.scenario import load
    from orchestrator.topology.link_words import describe
    from orchestrator.traffic import expected
    from orchestrator.units import Duration

    wanted = load(scenario)
    try:
        no_lab = file is not None or simulate
        meant = topology.load(topology_of(wanted, file)) if no_lab else Lab.attach(lab).topology
    except LabNotFound as error:
        if error.id == "lab.ambiguous" or lab is not None:
            raise
        meant = topology.load(topology_of(wanted, file))
    plan = wanted.resolve(meant, params, timeout, seed)
    if simulate:
        from orchestrator.lab.simulated_limits import require_simulable

        require_simulable(wanted, plan, meant)
    drawn = meant.seed if seed is None else seed
    traffic = [expected(entry, drawn) for entry in plan.traffic]
    if output is Output.json:
        emit(
            {
                "scenario": plan.scenario,
                "roles": {role: list(nodes) for role, nodes in plan.roles.items()},
                "params": dict(plan.params),
                "timeout_s": plan.timeout,
                "timeline": [_planned(change) for change in plan.timeline],
                "traffic": traffic,
            }
        )
        return
    rows = [
        (
            str(Duration(change.at_us)),
            change.fault or change.do,
            change.where,
            "; back: ".join(describe(spec) for spec in _specs(change)),
            change.cause,
        )
        for change in plan.timeline
    ]
    if rows:
        table(("time", "what", "where", "values", "cause"), rows)
    elif not traffic:
        notify(f"scenario {plan.scenario} has no timeline")
    if traffic:
        table(_COLUMNS, [_traffic(each) for each in traffic])
    notify(f"the run would fit the topology {meant.name}; nothing was started")


_COLUMNS = ("traffic", "transport", "pairs", "flows", "bytes", "from", "to", "offered Mbit/s")


def _traffic(planned: Mapping[str, Any]) -> tuple[str, ...]:
    ends, offered = planned["start_s"] + planned["duration_s"], planned["offered_bps"]
    return (
        planned["entry"],
        planned["transport"],
        str(planned["pairs"]),
        str(planned["flows"]),
        f"{planned['bytes']:,}".replace(",", " "),
        f"{planned['start_s']:g} s",
        f"{ends:g} s" if planned["duration_s"] else "its last flow",
        "" if offered is None else f"{offered / 1e6:.2f}",
    )


def _specs(change: TimelineChange) -> list[LinkSpec]:
    """What a change sets: nothing, the same in its directions, or what it sets forward and backward."""
    differ = change.direction == "both" and change.backward not in (None, change.spec)
    specs = (change.spec, change.backward) if differ else (_first(change),)
    return [spec for spec in specs if spec is not None]


def _first(change: TimelineChange) -> LinkSpec | None:
    return change.backward or change.spec if change.direction == "backward" else change.spec


def _planned(change: TimelineChange) -> dict[str, Any]:
    specs = _specs(change)
    return {
        "at_s": change.at_us / 1_000_000,
        "do": change.do,
        "where": change.where,
        "link": [change.a, change.b] if change.a else None,
        "direction": change.direction if change.a else None,
        "values": specs[0].to_wire() if specs else None,
        "values_back": specs[-1].to_wire() if len(specs) > 1 else None,
        "groups": [list(group) for group in change.groups] or None,
        "node": change.node or None,
        "fault": change.fault or None,
        "cause": change.cause,
    }
