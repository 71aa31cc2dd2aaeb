"""Test the REST API of a real lab: token, changes, bad requests, bad clients, and the stream of events."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from websockets.sync.client import connect

from orchestrator.lab import Lab
from orchestrator.procfs import ProcessId
from orchestrator.testing.plugin import Labs
from tests.integration.conftest import RING, shared_lab

lab = shared_lab(RING)


STARTS_PROGRAM = {
    ("post", "/nodes"),
    ("delete", "/nodes/{node_id}"),
    ("post", "/links"),
    ("delete", "/links/{a}/{b}"),
}


class Api:
    """Calls the API of a lab as a program of a user does."""

    def __init__(self, lab: Lab) -> None:
        facts = lab.status().details()
        self.url: str = facts["api_url"]
        self.document: str = facts["openapi_url"]
        self.token = Path(facts["token_file"]).read_text().strip()
        self.port = int(self.url.split(":")[2].split("/")[0])

    def __call__(self, verb: str, path: str, **more: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        return requests.request(verb, self.url + path, **{"headers": headers, "timeout": 20, **more})

    def stream(self, after: int) -> Any:
        url = f"ws://127.0.0.1:{self.port}/api/v1/events/stream?after={after}"
        return connect(url, additional_headers={"Authorization": f"Bearer {self.token}"})


@pytest.fixture
def api(lab: Lab) -> Api:
    return Api(lab)


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer no"}, {"Authorization": "Basic x"}])
def test_without_the_token_nothing_is_told(api: Api, headers: dict[str, str]) -> None:
    answer = api("GET", "/lab", headers=headers)
    assert (answer.status_code, answer.json()["error"]["id"]) == (401, "rest.token")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    big = api("PUT", "/partition", headers=headers, data=b"x" * 10_000_000)
    assert big.status_code == 401


def test_a_change_is_in_force_and_may_be_repeated(lab: Lab, api: Api) -> None:
    for _ in range(2):
        answer = api("PATCH", "/links/1/2/settings", json={"spec": {"delay_us": 20_000}})
        assert answer.json() == {"forward": {"delay_us": 20_000}, "backward": {"delay_us": 20_000}}
    assert api("GET", "/links/2/1").json()["forward"] == {"delay_us": 20_000}
    for _ in range(2):
        assert api("DELETE", "/links/1/2/settings").json() == {"forward": {}, "backward": {}}
    assert api("PUT", "/links/1/2/state", json={"down": True}).json()["state"] == "down"
    assert api("PUT", "/links/1/2/state", json={"down": False}).json()["state"] == "up"
    causes = [event.detail["cause"] for event in lab.events() if event.name == "link.changed"]
    assert causes == ["rest"] * 4


def test_a_node_is_stopped_and_started_with_its_process(lab: Lab, api: Api) -> None:
    sleeping = subprocess.Popen(
        lab._inner.command(3, ["sh", "-c", "echo here; exec sleep 600"]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert sleeping.stdout is not None and sleeping.stdout.readline() == b"here\n"
    for do, state in (("kill", "stopped"), ("start", "ready"), ("pause", "paused"), ("unpause", "ready")):
        answer = api("PUT", "/nodes/3/wanted", json={"do": do})
        assert answer.json() == {"changed": [3], "already": []}, answer.json()
        assert api("GET", "/nodes/3").json()["state"] == state
        if do == "kill":
            assert sleeping.wait(10) != 0
            refused = lab.node(1).run(["ping", "-c", "1", "-W", "1", "10.0.0.3"])
            assert refused.exit_code == 1
    assert lab.node(1).run(["ping", "-c", "1", "-W", "2", "10.0.0.3"]).ok
    assert api("PUT", "/nodes/3/wanted", json={"do": "start"}).json() == {"changed": [], "already": [3]}
    names = ("node.killed", "node.started")
    assert [event.detail["cause"] for event in lab.events() if event.name in names] == ["rest"] * 2


def test_nodes_and_links_come_and_go(lab: Lab, api: Api) -> None:
    made = api(
        "POST", "/nodes", json={"links": {"1": {"delay": "1 ms"}, "node-3": {}}, "labels": {"tier": "new"}}
    )
    assert made.json() == {"node_id": 5}
    assert lab.node(2).run(["ping", "-c", "1", "-W", "2", "10.0.0.5"]).ok
    assert api("GET", "/links/1/5").json()["forward"] == {"delay_us": 1_000}
    again = api("POST", "/nodes", json={"node_id": 5})
    assert (again.status_code, again.json()["error"]["id"]) == (409, "node.exists")
    added = api("POST", "/links", json={"a": 4, "b": 5, "values": {"rate": "10 Mbit"}}).json()["changes"]
    assert [(each["do"], each["kind"], each["what"]) for each in added] == [("add", "link", "link 4–5")]
    assert api("DELETE", "/links/4/5?force=true").status_code == 200
    assert api("GET", "/links/4/5").status_code == 404
    assert {each["kind"] for each in api("DELETE", "/nodes/5").json()["changes"]} == {"node", "link"}
    assert [node["id"] for node in api("GET", "/nodes").json()] == [1, 2, 3, 4]
    names = ("node.added", "node.removed")
    assert [event.detail["cause"] for event in lab.events() if event.name in names] == ["rest"] * 2


@pytest.mark.parametrize(
    ("verb", "path", "body", "status", "id"),
    [
        ("GET", "/nodes/99", None, 404, "node.unknown"),
        ("GET", "/nodes/x", None, 400, "rest.parameter"),
        ("GET", "/links/1/3", None, 404, "link.unknown"),
        ("GET", "/events?limt=3", None, 400, "rest.field"),
        ("POST", "/lab", None, 405, "rest.method"),
        ("GET", "/nothing", None, 404, "rest.no-route"),
        ("PUT", "/partition", b"{", 400, "rest.body"),
        ("PUT", "/partition", b"[" * 100_000, 400, "rest.body"),
        ("PUT", "/partition", b'{"groups": [[1], [1]]}', 400, "partition.twice"),
        ("PUT", "/partition", b"x" * 10_000_000, 413, "rest.too-large"),
        ("PATCH", "/links/1/2/settings", b'{"spec": {"dely_us": 1}}', 400, "rest.field"),
        ("PATCH", "/links/1/2/settings", b'{"spec": {"loss": NaN}}', 400, "rest.body"),
        ("PATCH", "/links/1/2/settings", b'{"spec": {"loss": 2}}', 400, "protocol.body"),
        ("PUT", "/nodes/1/wanted", b'{"do": "dance"}', 409, "node.fault"),
        ("POST", "/links", b'{"a": 1, "b": 3, "values": {"delay": "soon"}}', 400, "link.invalid"),
        ("POST", "/links", b'{"a": 1, "b": 99}', 400, "selector.invalid"),
        ("DELETE", "/nodes/1?force=maybe", None, 400, "rest.parameter"),
        ("DELETE", "/links/1/3", None, 404, "link.unknown"),
    ],
)
def test_a_bad_request_is_refused_by_name(
    api: Api, verb: str, path: str, body: bytes | None, status: int, id: str
) -> None:
    answer = api(verb, path, data=body)
    assert (answer.status_code, answer.json()["error"]["id"]) == (status, id)


def test_bad_clients_do_not_touch_the_nodes(lab: Lab, api: Api) -> None:
    head = f"GET /api/v1/lab HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.token}\r\n\r\n".encode()
    half = [b"GET /api/v1/l", b"GET /api/v1/lab HTTP/1.1\r\nHost:", head[:-2], b""]
    held = [socket.create_connection(("127.0.0.1", api.port)) for _ in half]
    for each, data in zip(held, half, strict=True):
        each.sendall(data)
    for rubbish in (b"\x00\xff\r\n\r\n", b"GET /api/v1/ HTTP/9.9\r\n\r\n", b"x" * 100_000, os.urandom(5000)):
        with socket.create_connection(("127.0.0.1", api.port)) as client:
            client.sendall(rubbish)
    with socket.create_connection(("127.0.0.1", api.port), timeout=10) as client:
        client.sendall(head * 20)  # pipelined
        seen = b""
        while seen.count(b"HTTP/1.1 200 OK") < 20:
            part = client.recv(65536)
            assert part, "the connection ended early"
            seen += part
    assert api("GET", "/lab").json()["state"] == "ready"
    assert not [event for event in lab.events() if event.name in ("node.lost", "node.unreachable")]
    for each in held:
        each.close()


def test_events_go_on_behind_a_number_after_the_controller_was_killed(
    labs: Labs, part: Callable[[str, str], ProcessId]
) -> None:
    own = labs.up(RING)
    api = Api(own)
    with api.stream(0) as stream:
        api("PUT", "/links/1/2/state", json={"down": True})
        first = events_until(stream, "link.taken-down")
    assert [event["seq"] for event in first] == list(range(1, len(first) + 1))
    os.kill(part(own.name, "controller").pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while True:  # repeated until it was said to be carried out: it is the same wanted state each time
        try:
            if api("PUT", "/links/1/2/state", json={"down": False}).ok:
                break
        except requests.RequestException:
            assert time.monotonic() < deadline
    with api.stream(first[-1]["seq"]) as stream:
        rest = events_until(stream, "link.brought-up")
    assert rest[0]["seq"] == first[-1]["seq"] + 1
    assert [event["name"] for event in rest].count("link.brought-up") == 1
    assert own.status().details()["links"][0]["down"] == ""


def test_no_request_made_from_the_document_is_a_server_error(api: Api) -> None:
    document = requests.get(api.document, timeout=10).json()
    schema = schemathesis.openapi.from_dict(document)
    headers = {"Authorization": f"Bearer {api.token}"}
    base = api.url.removesuffix("/api/v1")
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) >= 20

    def check(operation: Any) -> None:
        # What a program of its own is started for takes half a second.
        slow = (operation.method, operation.path.removeprefix("/api/v1")) in STARTS_PROGRAM

        @settings(
            max_examples=2 if slow else 8,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=st.one_of(operation.as_strategy(), operation.as_strategy()))
        def run(case: Any) -> None:
            if case.query and "timeout_ms" in case.query:
                case.query["timeout_ms"] = 200
            response = case.call(base_url=base, headers=headers, timeout=20)
            case.validate_response(response, checks=[not_a_server_error])

        run()

    for operation in operations:
        check(operation)
    assert api("GET", "/lab").status_code == 200


def events_until(stream: Any, name: str) -> list[dict[str, Any]]:
    """Return the events up to the first of a name."""
    found: list[dict[str, Any]] = []
    while not found or found[-1]["name"] != name:
        found.append(json.loads(stream.recv(10)))
    return found
