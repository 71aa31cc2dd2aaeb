"""Test `capture:` of scenarios: what is read, what it means in a topology, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator import scenario, topology
from orchestrator.capture import Target
from orchestrator.errors import ScenarioInvalid
from orchestrator.scenario import CapturePlan
from tests.capture.pcap import need_libpcap

RING = topology.loads(
    "name: ring\ntopology: {type: ring, n_nodes: 4}\nnodes: {3: {name: db}, 4: {external: true}}"
)
LARGE = topology.loads("name: large\ntopology: {type: ring, n_nodes: 40}")


def test_entries_become_files_named_after_what_they_have(tmp_path: Path) -> None:
    plans = _plans(
        tmp_path,
        "{node: 1, limit: 10 MB}",
        "{link: [2, db], snaplen: 96}",
        "{node: all}",
        "{node: 1}",
        '{node: "1-2"}',
    )
    assert [(plan.name, plan.targets) for plan in plans] == [
        ("node-1", (Target(1),)),
        ("link-2-3", (Target(2, 3),)),
        ("nodes", (Target(1), Target(2), Target(3))),
        ("node-1-2", (Target(1),)),
        ("nodes-2", (Target(1), Target(2))),
    ]
    assert (plans[0].limit, plans[0].snaplen, plans[1].snaplen) == (10_000_000, 262_144, 96)


def test_a_filter_is_compiled_when_the_file_is_read(tmp_path: Path) -> None:
    need_libpcap()
    (plan,) = _plans(tmp_path, "{node: 1, filter: tcp port 80}")
    assert plan.program.expression == "tcp port 80"
    assert plan.program.instructions


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{}", "an entry of `capture` has `node` or `link`, one of both"),
        ("{node: 1, link: [1, 2]}", "an entry of `capture` has `node` or `link`, one of both"),
        ("{node: 9}", "`9`"),
        ("{node: 4}", "node 4 is external, and nm captures nothing in it"),
        ("{link: [1, 3]}", "there is no link between 1 and 3 in ring"),
        ("{link: [1]}", "a list of exactly 2"),
        ("{node: 1, limit: 5 B}", "4 KiB"),
        ("{node: 1, fliter: tcp}", "unknown key `fliter`"),
    ],
)
def test_what_makes_no_sense_is_refused_at_its_place(tmp_path: Path, entry: str, message: str) -> None:
    with pytest.raises(ScenarioInvalid) as caught:
        _plans(tmp_path, entry)
    (problem,) = caught.value.problems
    assert message in f"{problem.message} {problem.expected}"
    assert problem.place is not None and problem.place.line == 3


def test_a_filter_that_does_not_parse_is_refused_at_its_place(tmp_path: Path) -> None:
    need_libpcap()
    with pytest.raises(ScenarioInvalid) as caught:
        _plans(tmp_path, "{node: 1, filter: tcp prot 80}")
    (problem,) = caught.value.problems
    assert problem.id == "scenario.capture-filter"
    assert problem.place is not None and problem.place.line == 3


def test_more_nodes_than_a_process_can_serve_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ScenarioInvalid, match="more than 16"):
        _load(tmp_path, "{node: all}").resolve(LARGE)


def _load(tmp_path: Path, *entries: str) -> scenario.Scenario:
    lines = ["roles: {a: {nodes: 1}}", "capture:", *(f"  - {entry}" for entry in entries)]
    (tmp_path / "scenario.yaml").write_text("\n".join(lines))
    (tmp_path / "roles.py").write_text("def a(ctx): ...")
    return scenario.load(tmp_path)


def _plans(tmp_path: Path, *entries: str) -> tuple[CapturePlan, ...]:
    return _load(tmp_path, *entries).resolve(RING).captures
