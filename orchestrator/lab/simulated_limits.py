"""Refuse what cannot run on the simulated network, by name and all at once, before anything is started."""

from __future__ import annotations

from orchestrator.errors import Place, ScenarioInvalid, quoted
from orchestrator.scenario import RunPlan, Scenario
from orchestrator.source import Problems
from orchestrator.topology import Topology

__all__ = ["require_simulable"]

_LAB = "without `--simulate` it runs in a lab"


def require_simulable(scenario: Scenario, plan: RunPlan, topology: Topology) -> None:
    """Check that a run needs nothing but nodes, links, routes and user-space flows.

    Raises:
        ScenarioInvalid: Carries everything that the simulation does not have.
    """
    problems = Problems("simulate")
    for role in scenario.roles.values():
        problems.add(
            f"the role `{role.name}` is a program, and no program runs on the simulated network",
            "simulate.role",
            role.place,
            found=role.name,
            expected="`traffic:` alone",
            hint=_LAB,
        )
    places = {draft.name: draft.value.place for draft in scenario.traffic}
    for entry in plan.traffic:
        if entry.transport != "user":
            problems.add(
                f"the traffic `{entry.name}` uses sockets of a kernel, and the simulated network has none",
                "simulate.transport",
                places.get(entry.name),
                found=f"transport: {entry.transport}",
                expected="transport: user",
                hint=f"`transport: user` is TCP inside the dataplane; {_LAB}",
            )
    for change in plan.timeline:
        if change.do == "node":
            problems.add(
                f"the timeline has `{change.fault}` of node {change.node}, but simulated nodes always run",
                "simulate.node-fault",
                None,
                found=change.fault,
                hint=f"`down` of its links or `partition` cuts it off; {_LAB}",
            )
    _check_rest(scenario, plan, problems)
    _check_topology(topology, problems)
    if not plan.traffic and not problems:
        problems.add(
            f"the scenario {scenario.name} has no traffic, so there is nothing to simulate",
            "simulate.no-traffic",
            Place(str(scenario.folder / "scenario.yaml")),
            expected="`traffic:` with `transport: user`",
        )
    problems.raise_as(ScenarioInvalid, scenario.name)


def _check_rest(scenario: Scenario, plan: RunPlan, problems: Problems) -> None:
    place = Place(str(scenario.folder / "scenario.yaml"))
    if plan.tests:
        names = quoted(test.name for test in plan.tests)
        problems.add(
            f"the tests {names} run in nodes of a lab",
            "simulate.tests",
            place,
            found="tests",
            hint=f"use `checks:`; {_LAB}",
        )
    if plan.captures:
        problems.add(
            "packets of the simulated network are not captured",
            "simulate.capture",
            place,
            found="capture",
            hint=_LAB,
        )


def _check_topology(topology: Topology, problems: Problems) -> None:
    place = Place(topology.file) if topology.file else None
    if topology.services:
        names = quoted(service.name for service in topology.services)
        problems.add(
            f"the services {names} are programs, and no program runs on the simulated network",
            "simulate.services",
            place,
            found="services",
            hint=_LAB,
        )
    if topology.flows:
        problems.add(
            f"the `flows:` of {topology.name} begin when a lab is ready, and no lab is started",
            "simulate.flows",
            place,
            found="flows",
            hint=f"`traffic:` of the scenario has flows with a time; {_LAB}",
        )
    external = [node.id for node in topology.nodes.values() if node.external]
    if external:
        problems.add(
            f"node {external[0]} is external: a program of your own runs it, and none can here",
            "simulate.external",
            place,
            found=f"external: {', '.join(map(str, external[:12]))}",
            hint=_LAB,
        )
    other = sorted({n.operating_mode for n in topology.nodes.values()} - {"normal"})
    if other:
        problems.add(
            f"nodes with `operating_mode: {other[0]}` use sockets of a kernel, and there is none here",
            "simulate.mode",
            place,
            found=other[0],
            expected="normal",
            hint=_LAB,
        )
