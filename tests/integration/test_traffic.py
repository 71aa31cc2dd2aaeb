"""Test generated traffic in a real lab: what is offered arrives, as fast as the links let it."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.lab import Lab
from tests.integration.conftest import shared_lab

pytestmark = pytest.mark.integration

RATE, DELAY_S = 50e6, 0.005

line = shared_lab(
    "name: line\ntopology: {type: line, n_nodes: 3}\ndefaults: {link: {rate: 50 Mbit, delay: 5 ms}}\n"
)

SCENARIO = """
traffic:
  - {name: flows, from: 1, to: 3, kind: poisson, load: 40 %, bytes: 50 KB, duration: 4 s}
  - {name: datagrams, from: 3, to: 1, kind: cbr, rate: 5 Mbit, duration: 2 s, transport: udp}
  - {name: answers, from: "2-3", to: 1, kind: incast, bytes: 20 KB, requests: 5, start: 1 s}
roles:
  meets: {nodes: "1-2"}
checks:
  - {name: complete, rows: traffic, where: "state == 'complete'", count: all}
timeout: 20 s
"""

ROLES = """
def meets(ctx):
    ctx.barrier("both")  # node 3, which only carries traffic, is not waited for
    ctx.report(met=True)
"""


def test_flows_arrive_and_take_as_long_as_the_links_make_them(line: Lab, tmp_path: Path) -> None:
    folder = tmp_path / "loaded"
    folder.mkdir()
    (folder / "scenario.yaml").write_text(SCENARIO)
    (folder / "roles.py").write_text(ROLES)
    outcome = line.run_scenario(folder, results=tmp_path / "out", seed=11)
    assert outcome.verdict == "pass", (outcome.reason, outcome.failures, outcome.checks, outcome.traffic)
    assert sorted(row["node"] for row in outcome.rows if row["role"] == "meets") == [1, 2]

    summaries = {each["entry"]: each for each in outcome.traffic}
    flows = summaries["flows"]
    assert (flows["incomplete"], flows["received_bytes"]) == (0, flows["bytes"])
    # 200 flows are expected, with a standard deviation of 14.
    assert flows["offered_bps"] == pytest.approx(0.4 * RATE, rel=0.25)
    assert flows["achieved_bps"] == pytest.approx(flows["offered_bps"], rel=0.1)
    assert summaries["datagrams"]["received_bytes"] == pytest.approx(1_250_000, rel=0.001)
    assert summaries["answers"]["flows"] == 10

    rows = [row for row in outcome.rows if row.get("entry") == "flows"]
    assert {(row["src"], row["dst"], row["node"]) for row in rows} == {(1, 3, 1)}
    # Connecting and confirming cross both links four times: there, back, there with the data, and back.
    least = 4 * 2 * DELAY_S + 50_000 * 8 / RATE
    assert min(row["seconds"] for row in rows) >= least
    assert flows["fct_s"]["p50"] < 1.0


def test_the_same_seed_gives_the_same_flows(line: Lab, tmp_path: Path) -> None:
    folder = tmp_path / "short"
    folder.mkdir()
    (folder / "scenario.yaml").write_text(
        "traffic:\n  - {from: 1, to: 2, kind: poisson, rate: 4 Mbit, sizes: sizes.csv, duration: 1 s}\n"
        "timeout: 15 s\n"
    )
    (folder / "sizes.csv").write_text("size,cdf\n2000,0\n20000,1\n")
    sent = []
    for run in range(2):
        outcome = line.run_scenario(folder, results=tmp_path / f"out-{run}", seed=5)
        assert outcome.verdict == "pass", (outcome.reason, outcome.failures)
        sent.append(sorted((row["start"], row["bytes"], row["src"]) for row in outcome.rows))
    assert sent[0] == sent[1] and len(sent[0]) > 20
