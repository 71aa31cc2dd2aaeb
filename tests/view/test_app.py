"""Test what the addresses of the page answer."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from orchestrator.protocol import messages as m
from orchestrator.view import details
from orchestrator.view.folders import ResultFolders
from tests.view.conftest import SCRIPT, FakeLab

ASSETS = files("orchestrator.view") / "assets"


def test_a_value_is_changed_in_the_words_of_link_set(client: TestClient, lab: FakeLab) -> None:
    asked = {"direction": "both", "values": {"delay": "20 ms", "loss": "1 %"}}
    answer = client.post("/api/links/2/1", json=asked)
    assert answer.json()["forward"] == {"rate_bps": 50_000_000, "delay_us": 20_000, "loss": 0.01}
    assert lab.happened[-1].detail == {"a": 2, "b": 1, "cause": "nm view"}
    keys = {each["key"]: each for each in client.get("/api/links/1/2").json()["keys"]}
    assert (keys["delay"]["forward"], keys["rate"]["backward"]) == ("20 ms", "50 Mbit")


@pytest.mark.parametrize(
    ("asked", "id", "message"),
    [
        ({"values": {"delay": "20 mz"}}, "link.invalid", "delay is `20 mz`, but `mz` is no unit of time"),
        ({"values": {"dely": "20 ms"}}, "view.request", "a link has no key `dely`"),
        ({"values": {"delay": 20}}, "view.request", "nothing to set"),
        ({"values": {}}, "view.request", "nothing to set"),
        ({"action": "explode"}, "view.request", "`explode` is no action"),
        ({"action": ["down"]}, "view.request", "`['down']` is no action"),
        ({"action": "down", "direction": "up"}, "view.request", "`up` is no direction"),
        ([1], "view.request", "the request is not a change of a link"),
        ({"action": "down", "cause": "x"}, "view.request", "the request is not a change of a link"),
    ],
)
def test_a_wrong_change_is_refused_with_the_place(
    client: TestClient, lab: FakeLab, asked: object, id: str, message: str
) -> None:
    answer = client.post("/api/links/1/2", json=asked)
    assert answer.status_code == 400
    assert (answer.json()["error"]["id"], answer.json()["error"]["message"]) == (id, message)
    assert not {"set", "state"} & set(lab.asked)


def test_what_the_controller_refuses_is_shown(client: TestClient) -> None:
    answer = client.post("/api/links/1/3", json={"values": {"delay": "1 ms"}})
    assert (answer.status_code, answer.json()["error"]["id"]) == (409, "link.unknown")
    assert client.get("/api/links/1/3").status_code == 404


def test_a_body_that_is_no_json_or_too_long_is_refused(client: TestClient) -> None:
    headers = {"content-type": "application/json"}
    for body, status in (("{", 400), ("[" * 20_000, 400), ("x" * 70_000, 413)):
        assert client.post("/api/links/1/2", content=body, headers=headers).status_code == status


def test_a_link_is_taken_down_and_up(client: TestClient, lab: FakeLab) -> None:
    down = client.post("/api/links/1/2", json={"action": "down", "direction": "forward"})
    assert down.json() == {"state": "down", "down": "forward", "reason": ""}
    assert client.post("/api/links/1/2", json={"action": "up"}).json()["state"] == "up"


def test_a_node_shows_routes_counters_and_logs(client: TestClient, lab: FakeLab) -> None:
    lab.log_text = ["begin", SCRIPT, "x" * 5_000]
    found = client.get("/api/nodes/2").json()
    assert found["routes"][0] == {"to": 3, "from": 2, "via": [4], "explicit": True}
    assert {"to": 1, "from": 0, "via": [3], "explicit": False} in found["routes"]
    assert found["services"] == [] and found["logs"][0] == "node-2"
    log = client.get("/api/logs/node-2")
    assert log.json()["lines"] == ["begin", SCRIPT, "x" * 2_000]
    assert log.headers["content-type"] == "application/json"
    assert client.get("/api/logs/node-3").json()["note"] == "node 3 is external"


@pytest.mark.parametrize(
    "path", ["/api/nodes/99", "/api/logs/node-99", "/api/logs/../x", "/reports/none", "/x"]
)
def test_what_there_is_not_is_not_found(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    "name", ["../app.py", "%2e%2e/app.py", "vendor/%2e%2e/%2e%2e/app.py", "vendor", "%2e%2e", "a.py"]
)
def test_no_file_but_those_of_the_page_is_served(client: TestClient, name: str) -> None:
    assert client.get(f"/assets/{name}").status_code == 404


def test_a_report_is_served_in_a_sandbox_and_from_results_folders_only(
    client: TestClient, tmp_path: Path
) -> None:
    folder = tmp_path / "results" / "2026-hello-1"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"run": "hello-1", "scenario": "hello", "verdict": "pass"}))
    (folder / "report.html").write_text("<p>report</p>")
    (tmp_path / "report.html").write_text("secret")
    answer = client.get("/reports/2026-hello-1")
    assert answer.text == "<p>report</p>"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox; default-src 'none'; script-src 'none'; ")
    folders = ResultFolders(tmp_path / "results")
    assert folders.find()["hello-1"]["report"] is True
    assert folders.report("2026-hello-1") == folder / "report.html"
    for name in ("..", ".", "", "../", "../results", "2026-hello-1/..", str(tmp_path)):
        assert folders.report(name) is None


def test_the_page_has_no_inline_script_and_loads_nothing_from_elsewhere() -> None:
    page = (ASSETS / "index.html").read_text()
    assert re.findall(r"<script[^>]*>(?!</script>)", page) == []
    assert not re.search(r"\son\w+=|style=|https?:", page)
    for file in ASSETS.iterdir():
        if file.name.endswith((".js", ".css")):
            text = file.read_text()
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text)
            assert "http" not in text.replace("https://www.w3.org", "")


def test_a_controller_that_is_away_is_an_answer(client: TestClient, lab: FakeLab) -> None:
    lab.away = True
    answer = client.get("/api/nodes/1")
    assert answer.status_code == 503 and answer.json()["error"]["message"] == "nothing answers"


def test_services_are_shown_where_the_lab_has_them(client: TestClient, lab: FakeLab) -> None:
    lab.services = [{"node": 1, "service": "redis", "state": "ready"}, {"node": 2, "service": "web"}]
    assert [each["service"] for each in client.get("/api/nodes/1").json()["services"]] == ["redis"]
    lab.log_text = ["ready"]
    assert client.get("/api/logs/1/redis").json()["lines"] == ["ready"]
    for other in ("1/web", "1/", "9/redis", "1/redis/redis", "redis"):
        assert client.get(f"/api/logs/{other}").status_code == 404


def test_counters_of_a_node_are_those_of_its_last_sample(lab: FakeLab) -> None:
    sample = m.NodeSample(1, 7, 100, 0, 3, 10, 1000, 20, 2000, {"no route": 2})
    assert details.counters(sample) == {
        "packets_out": 10,
        "bytes_out": 1000,
        "packets_in": 20,
        "bytes_in": 2000,
        "overload_drops": 3,
        "dropped: no route": 2,
    }
