"""Runs on the simulated network: repeatable in every bit, with timeline, series, sweeps and replays."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.deploy.home import Home
from orchestrator.errors import ScenarioInvalid, UsageError
from orchestrator.lab.replay import replay
from orchestrator.lab.simulated import simulate
from orchestrator.lab.sweep import run_sweep
from orchestrator.results import RunOutcome, open_bundle
from orchestrator.results.report import render
from orchestrator.results.series import read_series

RING = """
name: square
topology: {type: ring, n_nodes: 4}
defaults:
  link: {rate: 20 Mbit, delay: 5 ms, jitter: 1 ms, loss: 0.5 %, limit: 100 packets}
"""

PAIR = """
name: pair
n_nodes: 2
links: [{endpoints: [1, 2], rate: 20 Mbit, delay: 2 ms, limit: 100 packets}]
"""

CBR = "[{name: one, kind: all-to-all, from: 1, to: 2, bytes: 2 MB, transport: user}]"
POISSON = (
    "[{name: all, kind: poisson, from: all, to: all, rate: 500 kbit, bytes: 20 KB, duration: 3 s, "
    "transport: user}]"
)


def scenario(folder: Path, topology: str, traffic: str = CBR, rest: str = "") -> Path:
    """Write a scenario with its topology, and return its folder."""
    place = folder / "plain"
    place.mkdir(parents=True)
    (place / "net.yaml").write_text(topology)
    text = f"name: plain\nsummary: flows\ntopology: net.yaml\ntraffic: {traffic}\ntimeout: 30 s\n{rest}"
    (place / "scenario.yaml").write_text(text)
    return place


def run(place: Path, **options: Any) -> RunOutcome:
    return asyncio.run(simulate(place, results=place.parent / "results", **options))


def series(outcome: RunOutcome) -> list[dict[str, Any]]:
    """Return the time series of a run."""
    table = read_series(Path(outcome.results))
    assert table is not None
    return list(table.to_pylist())


def seconds(outcome: RunOutcome) -> list[float]:
    return [row["seconds"] for row in outcome.rows]


def test_a_seed_gives_identical_files_of_rows_and_another_one_others(tmp_path: Path) -> None:
    place = scenario(
        tmp_path, RING, POISSON, 'checks: [{name: all, rows: traffic, where: "bytes > 0", count: all}]'
    )
    first, again, other = run(place), run(place), run(place, seed=9)
    assert (first.backend, first.verdict, first.lab) == ("simulated", "pass", "square")
    assert len(first.rows) > 90
    for name in ("rows.csv", "rows.json", "rows.parquet"):
        content = (Path(first.results) / name).read_bytes()
        assert (Path(again.results) / name).read_bytes() == content
        assert (Path(other.results) / name).read_bytes() != content
    assert series(first) == series(again)
    assert first.traffic == again.traffic
    assert (first.seed, other.seed) == (1, 9)


def test_the_rows_are_those_of_a_lab_without_times_of_this_machine(tmp_path: Path) -> None:
    outcome = run(scenario(tmp_path, PAIR))
    (row,) = outcome.rows
    columns = "node role entry src dst bytes start seconds received state late round"
    assert list(row) == columns.split()
    assert (row["node"], row["role"], row["state"], row["received"]) == (1, "traffic", "complete", 2_000_000)
    assert 0.8 < row["seconds"] < 1.2  # 2 MB at 20 Mbit/s, with headers and the slow start
    assert outcome.traffic[0]["completed"] == 1
    assert outcome.traffic[0]["kept_up"] is True


def test_half_the_rate_takes_twice_as_long_and_the_change_is_an_event(tmp_path: Path) -> None:
    whole = run(scenario(tmp_path / "a", PAIR))
    half = "timeline: [{at: 0 s, set: [1, 2], rate: 10 Mbit, by: congestion}]"
    changed = run(scenario(tmp_path / "b", PAIR, rest=half))
    assert seconds(changed)[0] / seconds(whole)[0] == pytest.approx(2, abs=0.1)
    late = "timeline: [{at: 500 ms, set: [1, 2], rate: 10 Mbit}]"
    between = run(scenario(tmp_path / "c", PAIR, rest=late))
    assert seconds(whole)[0] + 0.2 < seconds(between)[0] < seconds(changed)[0] - 0.2
    lines = (Path(between.results) / "events.jsonl").read_text().splitlines()
    (event,) = [line for line in map(json.loads, lines) if line["kind"] == "timeline"]
    assert (event["data"]["do"], event["data"]["where"], event["data"]["at_s"]) == ("set", "1–2", 0.5)
    started = between.details["started"]
    assert event["time"][:17] == started[:17] or event["time"] > started


def test_a_flow_takes_the_other_way_while_a_link_is_down(tmp_path: Path) -> None:
    square = RING.replace(", jitter: 1 ms, loss: 0.5 %", "")
    traffic = "[{name: one, kind: all-to-all, from: 1, to: 2, bytes: 1 MB, transport: user}]"
    down = "timeline: [{at: 100 ms, down: [1, 2]}, {at: 10 s, up: [1, 2]}]"
    detour = run(scenario(tmp_path, square, traffic, down))
    assert [row["state"] for row in detour.rows] == ["complete"]
    carried = {
        row["object"] for row in series(detour) if row["metric"] == "bytes" and row["value"] > 1_000_000 / 2
    }
    assert {"1->4", "4->3", "3->2"} <= carried


def test_what_a_partition_cuts_off_is_given_up_at_the_end_of_the_run(tmp_path: Path) -> None:
    cut = "timeline: [{at: 200 ms, partition: '1|2'}]"
    outcome = run(scenario(tmp_path / "a", PAIR, rest=cut), timeout=10)
    (row,) = outcome.rows
    assert (row["state"], row["seconds"], row["given_up_s"]) == ("unfinished", None, 9.0)
    assert outcome.traffic[0]["incomplete"] == 1
    healed = run(scenario(tmp_path / "b", PAIR, rest=cut.replace("]", ", {at: 1 s, heal: true}]")))
    assert healed.rows[0]["state"] == "complete"
    assert healed.rows[0]["seconds"] > 1.5


def test_rounds_wait_for_each_other(tmp_path: Path) -> None:
    star = "name: s\ntopology: {type: star, n_nodes: 4}\ndefaults: {link: {rate: 10 Mbit, delay: 1 ms}}\n"
    traffic = "[{name: in, kind: incast, from: '2-4', to: 1, bytes: 50 KB, requests: 3, transport: user}]"
    outcome = run(scenario(tmp_path, star, traffic))
    assert [(row["node"], row["src"], row["round"]) for row in outcome.rows] == [
        (1, src, number) for src in (2, 3, 4) for number in (1, 2, 3)
    ]
    start = {(row["src"], row["round"]): row["start"] for row in outcome.rows}
    ends = {
        number: max(r["start"] + r["seconds"] for r in outcome.rows if r["round"] == number)
        for number in (1, 2)
    }
    for number in (2, 3):
        assert len({start[src, number] for src in (2, 3, 4)}) == 1
        assert start[2, number] >= ends[number - 1]
    assert [row["late"] for row in outcome.rows if row["round"] == 2] == [None] * 3


def test_an_explicit_route_is_taken(tmp_path: Path) -> None:
    square = RING.replace(", jitter: 1 ms, loss: 0.5 %", "")
    routed = f"{square}routes:\n  - {{from: 1, to: 2, path: [1, 4, 3, 2]}}\n"
    took = seconds(run(scenario(tmp_path / "a", square)))[0]
    assert seconds(run(scenario(tmp_path / "b", routed)))[0] > took


def test_the_report_and_the_plots_are_those_of_any_run(tmp_path: Path) -> None:
    outcome = run(scenario(tmp_path, RING, POISSON))
    written = render(Path(outcome.results))
    page = written.path.read_text()
    assert "simulated" in page
    assert list((Path(outcome.results) / "plots").glob("*.svg"))
    assert not written.problems


def test_a_replay_has_identical_rows_and_says_what_was_changed(tmp_path: Path) -> None:
    outcome = run(scenario(tmp_path, RING, POISSON))
    home = Home(tmp_path / "home")
    folder = Path(outcome.results)
    done = asyncio.run(replay(open_bundle(folder), home, results=tmp_path / "again"))
    assert done.same and done.exact and done.differences == ()
    assert done.outcome.rows == outcome.rows
    assert not home.labs()

    document = json.loads((folder / "run.json").read_text())
    document["versions"]["nm"] = "0.0.9"
    (folder / "run.json").write_text(json.dumps(document))
    rows = json.loads((folder / "rows.json").read_text())
    rows[3]["seconds"] += 0.000001
    (folder / "rows.json").write_text(json.dumps(rows))
    done = asyncio.run(replay(open_bundle(folder), home, results=tmp_path / "again"))
    assert not done.same
    assert [(each["column"], each["rows"]) for each in done.differences] == [("seconds", 1)]
    assert ("versions.nm", "0.0.9") in [(each["key"], each["a"]) for each in done.environment]


def test_a_sweep_runs_on_the_simulated_network(tmp_path: Path) -> None:
    place = scenario(tmp_path, RING.replace("loss: 0.5 %", "loss: 0"))
    work = run_sweep(
        place,
        {"defaults.link.rate": ["20 Mbit", "10 Mbit"]},
        repeat=2,
        backend="simulated",
        results=tmp_path / "results",
        home=Home(tmp_path / "home"),
    )
    asyncio.run(work)
    (folder,) = (tmp_path / "results").iterdir()
    document = json.loads((folder / "sweep.json").read_text())
    assert (document["verdict"], document["backend"], len(document["runs"])) == ("pass", "simulated", 4)
    assert len({each["seed"] for each in document["runs"]}) == 2
    slower, faster = (
        [each["traffic"][0]["fct_s"]["mean"] for each in document["runs"] if rate in each["params"].values()]
        for rate in ("10 Mbit", "20 Mbit")
    )
    assert min(slower) > max(faster)
    assert not Home(tmp_path / "home").labs()


def test_an_interrupted_run_keeps_what_has_ended(tmp_path: Path) -> None:
    place = scenario(tmp_path, RING, POISSON.replace("20 KB", "2 KB").replace("500 kbit", "3 Mbit"))

    async def interrupted() -> None:
        seen = asyncio.Event()
        task = asyncio.create_task(
            simulate(place, results=tmp_path / "results", progress=lambda _: seen.set())
        )
        await asyncio.wait_for(seen.wait(), 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(interrupted())
    (folder,) = (tmp_path / "results").iterdir()
    document = json.loads((folder / "run.json").read_text())
    assert (document["verdict"], document["reason"]) == ("error", "interrupted")
    assert json.loads((folder / "rows.json").read_text())


ROUTED = "routes: [{from: 1, to: 2, path: [1, 2]}]\nflows: [{from: 1, to: 2, bytes: 1 MB, route: [1, 2]}]\n"


@pytest.mark.parametrize(
    ("topology", "traffic", "rest", "id"),
    [
        (PAIR, CBR, "roles: {sender: {nodes: 1}}", "simulate.role"),
        (PAIR, CBR.replace("transport: user", "transport: tcp"), "", "simulate.transport"),
        (PAIR, CBR, "timeline: [{at: 1 s, node: 2, do: kill}]", "simulate.node-fault"),
        (PAIR, CBR, "capture: [{node: 1}]", "simulate.capture"),
        (PAIR, CBR, "tests: [{name: all, reach: all}]", "simulate.tests"),
        (f"{PAIR}services: {{web: {{nodes: 1, command: [sleep, '1']}}}}\n", CBR, "", "simulate.services"),
        (f"{PAIR}flows: [{{from: 1, to: 2, bytes: 1 MB}}]\n", CBR, "", "simulate.flows"),
        (f"{PAIR}{ROUTED}", CBR, "", "simulate.flows"),
        (PAIR.replace("s: 2", "s: 3") + "nodes: {3: {external: true}}\n", CBR, "", "simulate.external"),
    ],
)
def test_what_the_simulated_network_does_not_have_is_refused_by_name(
    tmp_path: Path, topology: str, traffic: str, rest: str, id: str
) -> None:
    place = scenario(tmp_path, topology, traffic, rest)
    (place / "roles.py").write_text("def sender(ctx):\n    pass\n")
    with pytest.raises(ScenarioInvalid) as error:
        run(place)
    found = [problem for problem in error.value.problems if problem.id == id]
    assert found and found[0].hint
    assert not (tmp_path / "results").exists()


def test_a_scenario_without_topology_or_with_wrong_parameters_is_refused(tmp_path: Path) -> None:
    place = scenario(tmp_path, PAIR)
    text = (place / "scenario.yaml").read_text()
    (place / "scenario.yaml").write_text(text.replace("topology: net.yaml\n", ""))
    with pytest.raises(UsageError, match="names no topology"):
        run(place)
    with pytest.raises(ScenarioInvalid, match="no parameter"):
        run(place, topology=place / "net.yaml", params={"size": 1})
