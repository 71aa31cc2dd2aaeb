"""Test several routes of a pair with real nodes: shares, pins, links that go down, changes under load."""

from __future__ import annotations

import json
import math
import time
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

from orchestrator.deploy.home import Home
from orchestrator.errors import NmError
from orchestrator.lab import Lab
from orchestrator.settings import load_controller
from tests.integration.conftest import Nm, shared_lab
from tests.integration.services import need, serve

# Nodes 1 to 8 are a ring; node 9 reaches node 13 over 10, 11 or 12.
lab = shared_lab(
    "name: several\nn_nodes: 13\ntopology: {type: ring, n_nodes: 8}\n"
    "links:\n"
    + "".join(f"  - {{endpoints: [9, {n}]}}\n  - {{endpoints: [{n}, 13]}}\n" for n in (10, 11, 12))
    + "  - {endpoints: [1, 13]}\n"
    "routes:\n"
    "  - {from: 9, to: 13, path: [9, 10, 13]}\n"
    "  - {from: 9, to: 13, path: [9, 11, 13], weight: 2}\n"
    "  - {from: 9, to: 13, path: [9, 12, 13], weight: 5}\n"
    "  - {from: 1, to: 4, path: [1, 2, 3, 4]}\n"
)

ECHO = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
    end.bind(("", 9009))
    while True:
        end.sendto(*end.recvfrom(100))
"""
SEND = """
import socket
for port in range(20000, 21000):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.bind(("", port))
        end.connect(("10.0.0.13", 9009))
        end.settimeout(10)
        for _ in range(3):
            end.send(b"x")
            end.recv(100)
"""
"""Sends three packets from each of a thousand ports, each when the one before has been answered."""


@pytest.fixture(scope="module")
def echo(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A program in node 13 that sends each datagram back."""
    serve(lab.node(13), ["python3", "-c", ECHO], tmp_path_factory.mktemp("echo") / "log").wait_listening(9009)


def measured(lab: Lab, home: Home) -> tuple[dict[tuple[int, int], int], int]:
    """Packets that each link carried, by (from, to), and packets that were dropped anywhere, as REST says."""
    settings = load_controller(home.lab(lab.name).run / "controller.toml")
    request = urllib.request.Request(
        f"http://127.0.0.1:{settings.port}/api/v1/measurements?timeout_ms=5000",
        headers={"Authorization": f"Bearer {settings.operator_token}"},
    )
    with urllib.request.urlopen(request, timeout=10) as reply:
        nodes = json.load(reply)
    packets: dict[tuple[int, int], int] = Counter()
    drops = 0
    for node in nodes:
        drops += node["overload_drops"]
        for link in node["links"]:
            packets[node["node_id"], link["remote_node_id"]] = link["packets"]
            drops += sum(link["drops"].values())
    return packets, drops


@pytest.mark.usefixtures("echo")
def test_a_thousand_flows_take_three_routes_by_weight_and_none_is_split(lab: Lab, home: Home) -> None:
    before, _ = measured(lab, home)
    sent = lab.node(9).run(["python3", "-c", SEND])
    assert sent.exit_code == 0, sent.stderr
    after, _ = measured(lab, home)
    taken = Counter(
        each.route for each in lab.routes.flows(9, limit=5_000).flows if each.flow.startswith("udp")
    )
    assert taken.total() == 1_000
    for route, middle, share in ((1, 10, 1 / 8), (2, 11, 2 / 8), (3, 12, 5 / 8)):
        # Were a flow split, some link would have carried one packet of it or two.
        assert after[middle, 13] - before.get((middle, 13), 0) == 3 * taken[route]
        # The 99 % interval of a binomial distribution: 2.576 standard deviations.
        assert abs(taken[route] - 1_000 * share) <= 2.576 * math.sqrt(1_000 * share * (1 - share)), taken


@pytest.mark.usefixtures("echo")
def test_a_link_that_goes_down_moves_only_its_flows(lab: Lab) -> None:
    def assigned() -> dict[str, int]:
        assert lab.node(9).run(["python3", "-c", SEND]).exit_code == 0
        flows = lab.routes.flows(9, limit=5_000).flows
        return {each.flow: each.route for each in flows if each.flow.startswith("udp")}

    before = assigned()
    lab.link(12, 13).down()
    assert [route.state for route in lab.routes.list(9, 13)] == ["up", "up", "down"]
    during = assigned()
    lab.link(12, 13).up()
    assert {route for flow, route in during.items() if before[flow] == 3} == {1, 2}
    assert all(route == before[flow] for flow, route in during.items() if before[flow] != 3)
    assert assigned() == before


def test_a_pin_and_its_fallback(lab: Lab) -> None:
    need("ping")

    def route_of_ping() -> tuple[int, str]:
        assert lab.node(9).run(["ping", "-c", "1", "-W", "2", "10.0.0.13"]).exit_code == 0
        flows = lab.routes.flows(9, limit=5_000).flows
        return next((each.route, each.by) for each in flows if each.flow.startswith("icmp"))

    hashed, by = route_of_ping()
    assert by == "hash"
    other = hashed % 3 + 1
    pin = lab.routes.pin(other, protocol="icmp")
    assert route_of_ping() == (other, "pin")
    lab.link(9, 9 + other).down()
    assert route_of_ping() == (hashed, "fallback")
    lab.link(9, 9 + other).up()
    assert route_of_ping() == (other, "pin")
    lab.routes.unpin(pin.pin_id)
    assert route_of_ping() == (hashed, "hash")
    with pytest.raises(NmError, match="there is no explicit route 99"):
        lab.routes.pin(99)


def test_a_user_space_flow_takes_the_route_that_it_asks_for(lab: Lab) -> None:
    for path, route in (([9, 10, 13], 1), ([9, 12, 13], 3)):
        (number,) = lab.flows.add(9, 13, bytes="300 KB", route=path)
        (done,) = lab.flows.wait(number, timeout=20)
        assert (done.state, done.bytes, done.taken_route) == ("finished", 300_000, route)
        latest = [each for each in lab.routes.flows(9).flows if each.flow.startswith("tcp")]
        assert (latest[0].route, latest[0].by) == (route, "pin")


def test_the_route_of_a_running_flow_is_reported_when_it_moves(lab: Lab) -> None:
    (number,) = lab.flows.add(9, 13, duration=60, rate="1 Mbit", route=[9, 12, 13])

    def wait_route(wanted: set[int]) -> None:
        deadline = time.monotonic() + 10
        while (found := lab.flows.list(number)[0]).taken_route not in wanted:
            assert found.state in ("waiting", "running") and time.monotonic() < deadline, found

    wait_route({3})
    lab.link(12, 13).down()
    wait_route({1, 2})
    lab.link(12, 13).up()
    wait_route({3})
    lab.flows.stop(number)


def test_a_route_changes_under_load_without_a_lost_packet(lab: Lab, home: Home, tmp_path: Path) -> None:
    need("iperf3")
    source, target = lab.node(1), lab.node(4)
    server = serve(target, ["iperf3", "-s", "-1", "-p", "5201"], tmp_path / "iperf3")
    server.wait_listening(5201)
    (route,) = lab.routes.list(1, 4)
    _, dropped = measured(lab, home)
    words = ["iperf3", "-c", target.address, "-p", "5201", "-t", "3", "-J"]
    client = serve(source, words, tmp_path / "client")
    deadline = time.monotonic() + 10
    while measured(lab, home)[0].get((3, 4), 0) < 1_000:
        assert client.runs() and time.monotonic() < deadline, "no traffic"
    for path in ([1, 8, 7, 6, 5, 4], [1, 2, 3, 4]):
        began = time.monotonic()
        lab.routes.set(route.id, path=path)
        assert time.monotonic() - began < 0.2
        old = (1, 2) if path[1] == 8 else (1, 8)
        moved, _ = measured(lab, home)
        later, _ = measured(lab, home)
        assert later[old] == moved[old], "traffic still takes the old route"
        assert later[1, path[1]] > moved[1, path[1]]
    said = json.loads(client.wait_end(20))
    assert said["end"]["sum_received"]["bytes"] > 0 and "error" not in said
    assert measured(lab, home)[1] == dropped, "packets were dropped"


def test_commands(lab: Lab, home: Home, tmp_path: Path) -> None:
    nm = Nm(home, tmp_path)
    listed = nm("route", "list", "--from", "9")
    assert listed.code == 0 and "9 → 12 → 13" in listed.out and "62.5%" in listed.out
    added = nm("route", "add", "2,3,4", "--weight", "2", "-o", "json")
    number = json.loads(added.out)["route_id"]
    assert nm("route", "set", number, "--weight", "0").code == 2
    assert nm("route", "add", "2,4").code == 2
    pinned = json.loads(nm("flow", "pin", number, "--protocol", "tcp", "--dst-port", "80", "-o", "json").out)
    assert f"{pinned['pin_id']}" in nm("flow", "pins").out
    assert nm("flow", "unpin", pinned["pin_id"]).code == 0
    assert json.loads(nm("route", "flows", "9", "-o", "json").out)["flows"]
    assert nm("route", "del", number).code == 0
    assert nm("route", "del", number).code == 2
