"""Test on real TUN devices that links do what is requested, with wide margins: machines of CI are busy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.bench import ROWS, LabEnds, measure
from orchestrator.impairment import LinkSpec
from orchestrator.lab import Lab
from orchestrator.results import RunOutcome
from orchestrator.results.report import write
from orchestrator.results.series import matching, read_series

TOPOLOGY = """\
name: fidelity-test
topology: {type: line, n_nodes: 2}
"""

pytestmark = pytest.mark.lab(TOPOLOGY, backend="native")


def test_rate_delay_and_loss_of_a_real_link(lab: Lab) -> None:
    chosen = ("rate-10", "delay-10", "loss-1", "gilbert")
    rows = [row.quick() for row in ROWS if row.name in chosen]
    results = measure(rows, LabEnds(lab), lambda _text: None)
    assert all(result.values for result in results.values()), results
    assert abs(results["rate-10"].values["deviation %"]) < 5
    assert 10 <= results["delay-10"].values["mean ms"] < 15
    assert 0.8 < results["loss-1"].values["loss %"] < 1.2
    assert 4 < results["gilbert"].values["loss %"] < 6
    assert 4.5 < results["gilbert"].values["mean burst"] < 5.5


def test_a_run_reports_what_its_links_did(lab: Lab, run_scenario: Callable[..., RunOutcome]) -> None:
    lab.set_link(1, 2, LinkSpec(delay_us=5_000, loss=0.1), direction="forward")
    lab.set_link(1, 2, LinkSpec(delay_us=2_000), direction="backward")
    run = run_scenario("unicast-echo", params={"count": 500, "wait": 0.05}, check=False)
    document = json.loads((Path(run.results) / "run.json").read_text())
    assert document["fidelity"] == run.fidelity and document["plots"] == []
    links = {each["direction"]: each for each in run.fidelity["links"]}
    forward, backward = links["forward"]["measured"], links["backward"]["measured"]
    assert links["forward"]["requested"]["delay"] == 0.005
    assert forward["packets"] >= 450 and backward["packets"] <= forward["packets"]
    assert forward["drops"]["loss"] == round(forward["loss"] * forward["packets"]) > 0
    low, high = forward["loss_interval"]
    assert low < forward["loss"] < high
    assert 0.005 <= forward["delay_p50"] < 0.02 and 0.002 <= backward["delay_p50"] < 0.02
    assert forward["delay_p50"] <= forward["delay_p95"] <= forward["delay_p99"]
    assert run.fidelity["host"]["cpu_share"] is not None
    assert run.fidelity["verdict"] in ("kept", "broken")
    table = read_series(Path(run.results))
    assert table is not None
    sums: dict[tuple[str, str], float] = {}
    for row in table.to_pylist():
        key = (row["object"], row["metric"])
        sums[key] = sums.get(key, 0.0) + row["value"]
    assert sums["1->2", "drops.loss"] == forward["drops"]["loss"]
    assert sums["1->2", "packets"] == forward["packets"] - forward["drops"]["loss"]
    assert sums["2", "packets_in"] >= 400 and sums["1->2", "bytes"] > 400 * 28
    delays = matching(table, object="1->2", metric="delay").to_pydict()["value"]
    assert delays and all(0.005 <= each < 0.02 for each in delays)
    assert matching(table, kind="host", metric="memory_used").num_rows >= 1
    page = write(Path(run.results)).read_text()
    assert run.run in page and "packets dropped on links" in page
