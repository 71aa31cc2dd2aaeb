"""Test metrics of a real lab: rates and flows under iperf3, exports, Prometheus, and a new process."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import requests
from rich.console import Console

from orchestrator.cli.common import Output
from orchestrator.errors import UsageError
from orchestrator.lab import Lab
from orchestrator.lab.metrics import MetricsSnapshot
from tests.integration.conftest import shared_lab

pytestmark = pytest.mark.integration

line = shared_lab(
    "name: metrics\ntopology: {type: line, n_nodes: 3}\n"
    "defaults: {link: {rate: 50 Mbit, delay: 2 ms}}\n"
    "metrics: {interval: 500 ms}\n"
)


def until(lab: Lab, condition: Callable[[MetricsSnapshot], Any], within: float = 15.0) -> MetricsSnapshot:
    """Take samples until one meets a condition."""
    end = time.monotonic() + within
    while True:
        found = lab.metrics.snapshot()
        if condition(found):
            return found
        assert time.monotonic() < end, found
        time.sleep(0.1)


def bulk(found: MetricsSnapshot) -> Any:
    """The flow of iperf3 with the most bytes."""
    flows = (
        [flow for flow in found.nodes[1].app_flows if flow.name.startswith("tcp ")]
        if 1 in found.nodes
        else []
    )
    return max(flows, key=lambda flow: flow.tx_bytes, default=None)


def is_seen(found: MetricsSnapshot) -> bool:
    """Whether the flow runs, and the relay has reported what it sends."""
    flow = bulk(found)
    running = flow is not None and flow.finish_us is None and flow.tx_bps > 30e6
    return running and 2 in found.nodes and any(link.tx_bps > 30e6 for link in found.nodes[2].links)


def test_a_flow_of_a_program_is_seen_while_it_runs_and_when_it_has_ended(line: Lab) -> None:
    line.node(3).run(["iperf3", "-s", "-1", "-D"])
    with ThreadPoolExecutor(1) as threads:
        client = threads.submit(line.node(1).run, ["iperf3", "-c", "node-3", "-t", "3"])
        seen = until(line, is_seen)
        route = line.routes.add([1, 2, 3]).id
        until(line, lambda found: bulk(found).route_id == route)
        line.routes.remove(route)
        until(line, lambda found: bulk(found).route_id is None)
        assert client.result().exit_code == 0
    flow = bulk(seen)
    assert (flow.dst_node_id, flow.name.endswith(" > 10.0.0.3:5201")) == (3, True)
    assert 8_000 <= flow.answered_us < 2_000_000, "four delays of 2 ms pass before the answer"
    relay = {link.remote_node_id: link for link in seen.nodes[2].links}
    assert 30e6 < relay[3].tx_bps < 56e6
    assert relay[1].rx_bps == pytest.approx(relay[3].tx_bps, rel=0.5)
    ended = bulk(until(line, lambda found: bulk(found).finish_us is not None))
    assert (ended.finish_us - ended.start_us) / 1e6 == pytest.approx(3, abs=1.5)
    (row,) = [row for row in line.metrics.rows("app-flows") if row["bytes"] == ended.tx_bytes]
    assert (row["node_id"], row["dst_node_id"], row["finish_us"]) == (1, 3, ended.finish_us)
    changes = [each for each in line.metrics.rows("route-changes") if each["flow_id"] == row["flow_id"]]
    assert [(each["from_route_id"], each["route_id"]) for each in changes] == [(None, route), (route, None)]
    times = [each["time_ms"] for each in changes]
    assert flow.start_us / 1000 < times[0] < times[1]


def test_exports_hold_the_same_rows(line: Lab, tmp_path: Path) -> None:
    from pyarrow import parquet

    rows = line.metrics.rows("links")
    assert line.metrics.export(tmp_path / "links.csv") >= len(rows) > 3
    line.metrics.export(tmp_path / "links.parquet")
    with (tmp_path / "links.csv").open() as file:
        written = list(csv.DictReader(file))
    table = parquet.read_table(tmp_path / "links.parquet").to_pylist()
    assert [int(row["tx_bytes"]) for row in written[: len(rows)]] == [row["tx_bytes"] for row in rows]
    assert [row["tx_bytes"] for row in table[: len(rows)]] == [row["tx_bytes"] for row in rows]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert line.metrics.export(tmp_path / "none.csv", "nodes", last="1 ms") == 0
    for wrong in [("links.txt", "links", None), ("x.csv", "links", "soon"), ("no/x.csv", "links", None)]:
        with pytest.raises(UsageError):
            line.metrics.export(tmp_path / wrong[0], wrong[1], wrong[2])  # type: ignore[arg-type]  # it is refused


def test_prometheus_and_the_rest_api_have_them_for_those_with_the_token(line: Lab) -> None:
    facts = line.status().details()
    root = facts["api_url"].removesuffix("/api/v1")
    headers = {"Authorization": f"Bearer {Path(facts['token_file']).read_text().strip()}"}
    assert requests.get(f"{root}/metrics", timeout=10).status_code == 401
    answer = requests.get(f"{root}/metrics", headers=headers, timeout=10)
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert '\nnm_link_tx_bytes_total{node="1",remote="2"} ' in answer.text
    body = requests.get(f"{facts['api_url']}/metrics", headers=headers, timeout=10).json()
    assert {each["node_id"] for each in body["nodes"]} == {1, 2, 3}
    page = requests.get(f"{facts['api_url']}/metrics/links?limit=1", headers=headers, timeout=10).json()
    assert page["rows"] and page["next"] > 0
    wrong = requests.get(f"{facts['api_url']}/metrics/clouds", headers=headers, timeout=10)
    assert (wrong.status_code, wrong.json()["error"]["id"]) == (400, "metrics.table")


def test_counters_of_a_node_that_was_started_again_begin_again(line: Lab) -> None:
    before = line.metrics.snapshot().nodes[3]
    line.node(3).kill()
    line.node(3).start()
    line.node(3).run(["ping", "-c", "2", "-i", "0.2", "node-1"])
    after = until(line, lambda found: 0 < found.nodes[3].bytes_out < before.bytes_out).nodes[3]
    assert all(0 <= link.tx_bps < 1e6 for link in after.links)


def test_top_prints_a_table_for_each_update_where_there_is_no_terminal(line: Lab, capsys: Any) -> None:
    from orchestrator.cli.top import _plain, _Screen, as_json

    screen = _Screen(line, "nodes", 2)
    _plain(screen, 0.1, 2)
    out = capsys.readouterr().out
    assert out.count("lab metrics  3 nodes  sorted by out") == 2
    assert len(out.splitlines()) == 2 * 4 + 1, "a heading, the names of columns, and two of three rows"
    with pytest.raises(UsageError, match="has no column"):
        screen.sort_by("colour")
    for key in "nlfgs":
        screen.press(key)
        screen.press("o")
        screen.render(24)
    assert json.loads(json.dumps(as_json(line.metrics.snapshot())))["interval_ms"] == 500


def test_the_status_is_printed_again_and_again_where_there_is_no_terminal(line: Lab, capsys: Any) -> None:
    from orchestrator.cli.status import _print_updates, _Screen

    _print_updates(line, 0.1, 2, Output.table)
    out = capsys.readouterr().out
    assert out.count("links: 2 of 2 up") == 2
    _print_updates(line, 0.1, 2, Output.json)
    first, second = (json.loads(text) for text in capsys.readouterr().out.splitlines())
    assert (first["state"], len(first["nodes"])) == ("ready", 3)
    assert first["time_ms"] < second["time_ms"]
    screen = _Screen(line)
    screen.update()
    shown = Console(width=100, record=True, file=StringIO())
    shown.print(screen.render(8))
    text = shown.export_text()
    assert "3 of 3 nodes ready" in text and "links: 2 of 2 up" in text
    assert text.count(" ready  ") < 3, "not all nodes fit"
