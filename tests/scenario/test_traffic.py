"""Test `traffic:` of scenarios: what entries mean in a topology, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator import scenario, topology
from orchestrator.errors import ScenarioInvalid
from orchestrator.scenario import RunPlan

LINE = topology.loads(
    "name: line\nn_nodes: 4\nnodes: {3: {name: db}, 4: {external: true}}\n"
    "links:\n"
    "  - {endpoints: [1, 2], rate: 100 Mbit}\n"
    "  - {endpoints: [2, 3], forward: {rate: 20 Mbit}, backward: {rate: 50 Mbit}}\n"
    "  - {endpoints: [3, 4]}\n"
)


@pytest.mark.parametrize(
    ("ends", "rate"), [("from: 1, to: db", 10e6), ("from: db, to: 1", 25e6), ("from: 1, to: 2", 50e6)]
)
def test_a_load_is_a_share_of_the_slowest_link_in_its_direction(
    tmp_path: Path, ends: str, rate: float
) -> None:
    (entry,) = _plan(tmp_path, f"{{{ends}, kind: poisson, load: 50 %, bytes: 10 KB}}").traffic
    assert entry.rate_bps == rate


def test_a_scenario_may_have_traffic_alone(tmp_path: Path) -> None:
    plan = _plan(tmp_path, "{from: 1, to: db, kind: cbr, rate: 1 Mbit, duration: 2 s}")
    assert plan.roles == {"traffic": (1, 3)}


def test_nodes_with_a_role_carry_traffic_beside_it(tmp_path: Path) -> None:
    (tmp_path / "roles.py").write_text("def a(ctx): ...")
    plan = _plan(tmp_path, "{from: all, to: 1, kind: incast, bytes: 1 KB}", more="roles: {a: {nodes: 1}}\n")
    assert plan.roles == {"a": (1,), "traffic": (2, 3)}
    assert plan.traffic[0].pairs == ((2, 1), (3, 1))


def test_bytes_of_a_request_flow_to_the_client(tmp_path: Path) -> None:
    (entry,) = _plan(tmp_path, "{from: 1, to: 2, kind: request-response, bytes: 1 KB}").traffic
    assert entry.pairs == ((2, 1),)


def test_names_and_ports_are_told_apart(tmp_path: Path) -> None:
    entry = "{from: 1, to: 2, kind: incast, bytes: 1 KB}"
    plan = _plan(tmp_path, entry, entry, "{name: x, from: 1, to: 2, kind: incast, bytes: 1 KB, port: 80}")
    assert [(each.name, each.port) for each in plan.traffic] == [
        ("incast 1>2", 20_000),
        ("incast 1>2-2", 20_001),
        ("x", 80),
    ]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{from: 1, to: 9, kind: incast, bytes: 1 KB}", "`9` "),
        ("{from: 1, to: 1, kind: incast, bytes: 1 KB}", "has no pair of two nodes"),
        ("{from: 1, to: 4, kind: incast, bytes: 1 KB}", "node 4 is external"),
        ("{from: 1, to: 2, kind: cbr, rate: 1 Mbit, duration: 60 s}", "ends after 60 s"),
        ("{from: 1, to: 2, kind: poisson, rate: 1 Gbit, bytes: 1 KB}", "more than 50000 flows"),
    ],
)
def test_what_does_not_fit_the_topology_is_refused(tmp_path: Path, entry: str, message: str) -> None:
    with pytest.raises(ScenarioInvalid) as caught:
        _plan(tmp_path, entry)
    (problem,) = caught.value.problems
    assert message in problem.message


def test_a_load_needs_a_link_with_a_rate(tmp_path: Path) -> None:
    plain = topology.loads("name: plain\ntopology: {type: line, n_nodes: 2}")
    with pytest.raises(ScenarioInvalid, match="no link between its nodes has a rate"):
        _load(tmp_path, "{from: 1, to: 2, kind: cbr, load: 10 %}").resolve(plain)


def test_entries_with_one_port_are_refused(tmp_path: Path) -> None:
    entry = "{from: 1, to: 2, kind: incast, bytes: 1 KB, port: 90}"
    with pytest.raises(ScenarioInvalid, match="have the port 90"):
        _plan(tmp_path, entry, entry)


def _load(tmp_path: Path, *entries: str, more: str = "") -> scenario.Scenario:
    lines = ["traffic:", *(f"  - {entry}" for entry in entries)]
    (tmp_path / "scenario.yaml").write_text(more + "\n".join(lines))
    return scenario.load(tmp_path)


def _plan(tmp_path: Path, *entries: str, more: str = "") -> RunPlan:
    return _load(tmp_path, *entries, more=more).resolve(LINE)
