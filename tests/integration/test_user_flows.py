"""Test user-space flows in a real lab: of the file, live, of generated traffic, with a killed controller."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.deploy import state
from orchestrator.deploy.home import Home
from orchestrator.lab import Lab
from orchestrator.protocol import PeerError
from tests.integration.conftest import shared_lab
from tests.integration.damage import kill

pytestmark = pytest.mark.integration

ring = shared_lab(
    "name: flows\ntopology: {type: ring, n_nodes: 4}\ndefaults: {link: {rate: 100 Mbit, delay: 2 ms}}\n"
    "flows:\n"
    "  - {from: 1, to: 3, bytes: 1 MB, count: 20}\n"
    '  - {from: "2-3", to: 4, duration: 500 ms, rate: 4 Mbit}\n'
)


def test_flows_of_the_file(ring: Lab) -> None:
    """They start with the lab, and their destinations get every byte."""
    found = ring.flows.wait(timeout=20)
    assert {flow.state for flow in found} == {"finished"}, found
    assert [flow.bytes for flow in found if flow.size_bytes] == [1_000_000] * 20
    paced = [flow for flow in found if flow.duration_ms]
    assert {(flow.src, flow.dst) for flow in paced} == {(2, 4), (3, 4)}
    for flow in paced:
        assert 125_000 < flow.bytes < 1.05 * 4e6 / 8 / 2  # a busy machine sends less than the rate allows
        assert flow.seconds == pytest.approx(0.5, abs=0.2)


def test_flows_are_added_and_stopped(ring: Lab) -> None:
    """A flow runs until it is stopped, and has the bytes that arrived until then."""
    (long,) = ring.flows.add(1, 2, duration="1 h", rate="8 Mbit")
    done = ring.flows.wait(*ring.flows.add(1, 2, bytes=100_000, count=3), timeout=20)
    assert [(flow.state, flow.bytes) for flow in done] == [("finished", 100_000)] * 3
    with pytest.raises(PeerError, match="have not ended"):
        ring.flows.wait(long, timeout=0.1)
    assert ring.flows.stop(long) == [long]
    (ended,) = ring.flows.wait(long, timeout=10)
    assert (ended.state, ended.reason) == ("stopped", "stopped")
    assert ended.bytes > 0
    assert ring.flows.remove(long) == [long]


def test_a_rate_changes_while_a_flow_runs(ring: Lab, home: Home) -> None:
    """A statement of SQL is in force at once; what is wrong with one is said by the database."""
    import psycopg

    from orchestrator.settings import load_controller

    (number,) = ring.flows.add(1, 2, bytes=2_000_000, rate="100 kbit")
    conninfo = load_controller(home.lab(ring.name).run / "controller.toml").db.conninfo()
    with psycopg.connect(conninfo, autocommit=True) as db:
        db.execute("UPDATE user_flows SET rate_bps = 50000000 WHERE flow_id = %s", (number,))
        with pytest.raises(psycopg.errors.CheckViolation, match="cannot change"):
            db.execute("UPDATE user_flows SET dst_node_id = 3 WHERE flow_id = %s", (number,))
    (flow,) = ring.flows.wait(number, timeout=20)
    assert (flow.state, flow.bytes) == ("finished", 2_000_000)
    assert flow.seconds < 10  # at the rate that it began with it would take 160 s


def test_a_killed_controller_does_not_start_flows_twice(ring: Lab, home: Home) -> None:
    """A flow goes on while the controller is away, and its end is stored when it is back, once."""
    (number,) = ring.flows.add(3, 1, duration=2.0, rate="4 Mbit")
    note = state.read(home.lab(ring.name))
    assert note is not None
    kill(note.parts["controller"])
    (flow,) = ring.flows.wait(number, timeout=20)
    assert flow.state == "finished"
    assert 500_000 < flow.bytes < 1_050_000  # a busy machine sends less than the rate allows
    assert flow.seconds == pytest.approx(2.0, abs=0.5)


SCENARIO = """
traffic:
  - {name: flows, from: 1, to: 3, kind: poisson, rate: 10 Mbit, bytes: 20 KB, duration: 2 s, transport: user}
  - {name: answers, from: "2-3", to: 1, kind: incast, bytes: 20 KB, requests: 5, transport: user}
checks:
  - {name: complete, rows: traffic, where: "state == 'complete'", count: all}
timeout: 20 s
"""


def test_generated_traffic(ring: Lab, tmp_path: Path) -> None:
    """Patterns of traffic are carried by user-space flows, with the rows of sockets."""
    folder = tmp_path / "loaded"
    folder.mkdir()
    (folder / "scenario.yaml").write_text(SCENARIO)
    outcome = ring.run_scenario(folder, results=tmp_path / "out", seed=11)
    assert outcome.verdict == "pass", (outcome.reason, outcome.failures, outcome.checks, outcome.traffic)
    rows = [row for row in outcome.rows if row.get("entry") == "answers"]
    assert len(rows) == 10 and {row["node"] for row in rows} == {1}
    # A connection is made and its bytes are confirmed: two round trips over at least one link.
    assert all(row["seconds"] > 2 * 2 * 0.002 for row in rows)
    assert not ring.flows.list(open_only=True)
