"""Test IPv6 and links with smaller MTUs with the kernel's own programs: ping, traceroute, iperf3 and HTTP."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.lab import Lab, Node
from tests.integration.conftest import shared_lab
from tests.integration.services import need, serve

pytestmark = pytest.mark.integration

line = shared_lab(
    "name: six\nn_nodes: 4\nnodes: {4: {mtu: 1000}}\n"
    "links:\n  - {endpoints: [1, 2]}\n  - {endpoints: [2, 3], mtu: 1300}\n"
    "  - {endpoints: [3, 4], mtu: 1000}\n"
)


def run(node: Node, *words: object) -> str:
    """The output of a command that has to succeed."""
    result = node.run([str(word) for word in words], timeout=20)
    assert result.exit_code == 0, result
    return result.stdout


def address6(node: Node) -> str:
    assert node.address6 is not None
    return node.address6


def test_nodes_have_addresses_of_both_versions_and_names_have_the_ipv4_one_first(line: Lab) -> None:
    assert address6(line.node(3)).endswith("::3")
    assert line.node(4).address6 is None
    shown = run(line.node(1), "ip", "-6", "-o", "addr", "show", "utun")
    assert f"{address6(line.node(1))}/48" in shown
    assert "fe80" not in shown
    first = run(line.node(1), "getent", "ahosts", "node-3").split()[0]
    assert first == line.node(3).address
    assert run(line.node(1), "getent", "ahostsv6", "node-3").split()[0] == address6(line.node(3))
    [known] = [node for node in line.status().as_json()["nodes"] if node["id"] == 3]
    assert known["address6"] == address6(line.node(3))


def test_ping_and_traceroute(line: Lab) -> None:
    pinged = run(line.node(1), "ping", "-6", "-c", "2", "-i", "0.2", "-W", "5", "node-3")
    assert "ttl=254" in pinged  # 255 at the start, one relay
    need("traceroute")
    said = run(line.node(1), "traceroute", "-6", "-n", "-q", 1, "-w", 5, address6(line.node(3)))
    hops = [text.split()[1] for text in said.splitlines()[1:]]
    assert hops == [address6(line.node(2)), address6(line.node(3))]
    network = address6(line.node(1)).removesuffix("1")
    refused = line.node(1).run(["ping", "-6", "-c", "1", "-W", "5", f"{network}77"])
    assert refused.exit_code != 0
    assert "No route" in refused.stdout, refused


@pytest.mark.parametrize("flags", [[], ["-R"], ["-u", "-b", "50M", "-l", "1200"]], ids=" ".join)
def test_ipv6_crosses_a_narrower_link(line: Lab, flags: list[str], tmp_path: Path) -> None:
    """TCP learns the path's MTU from the relay, in both directions."""
    measured = iperf(line.node(3), address6(line.node(3)), line.node(1), tmp_path, *flags)
    received = measured["sum"] if "-u" in flags else measured["sum_received"]
    assert received["bits_per_second"] > 20e6, measured


@pytest.mark.parametrize("flags", [[], ["-R"]], ids=" ".join)
def test_ipv4_streams_cross_two_narrower_links(line: Lab, flags: list[str], tmp_path: Path) -> None:
    measured = iperf(line.node(4), line.node(4).address, line.node(1), tmp_path, *flags)
    assert measured["sum_received"]["bits_per_second"] > 20e6, measured


def iperf(server: Node, address: str, client: Node, folder: Path, *flags: str) -> dict[str, Any]:
    """What `iperf3` measured in a second."""
    need("iperf3")
    serve(server, ["iperf3", "-s", "-1", "-p", "5201"], folder / "iperf3").wait_listening(5201)
    said = json.loads(run(client, "iperf3", "-c", address, "-p", 5201, "-t", 1, "-J", *flags))
    assert "error" not in said, said
    return dict(said["end"])


def test_curl_reaches_a_server_by_address_and_by_name(line: Lab, tmp_path: Path) -> None:
    need("curl")
    server = line.node(3)
    (tmp_path / "page").write_text("six" * 10_000)
    words = [sys.executable, "-m", "http.server", "8000", "--bind", address6(server), "--directory", tmp_path]
    serve(server, words, tmp_path / "http").wait_listening(8000)
    for host, *flags in ((f"[{address6(server)}]",), (server.name, "-6")):
        assert (
            run(line.node(1), "curl", "-sS", "--fail", *flags, f"http://{host}:8000/page") == "six" * 10_000
        )


def test_a_packet_too_large_for_a_link_is_answered_or_fragmented(line: Lab) -> None:
    """IPv4 with and without "don't fragment", IPv6 always."""
    there = line.node(3).address
    told = line.node(2).run(["ping", "-c", "1", "-W", "2", "-M", "do", "-s", "1400", there])
    assert told.exit_code != 0
    # The first packet learns the MTU, the next ones are refused by the kernel itself.
    assert re.search(r"[Ff]rag needed.*1300|mtu ?= ?1300", told.stdout + told.stderr), told
    fragments = run(line.node(2), "ping", "-c", "1", "-W", "5", "-M", "dont", "-s", "4000", there)
    assert "4008 bytes from" in fragments
    again = run(line.node(1), "ping", "-c", "1", "-W", "5", "-M", "dont", "-s", "3000", line.node(4).address)
    assert "3008 bytes from" in again
    first = line.node(1).run(
        ["ping", "-6", "-c", "1", "-W", "2", "-M", "do", "-s", "1400", address6(line.node(3))]
    )
    assert first.exit_code != 0
    assert re.search(r"too big.*1300|mtu[ =:]*1300", first.stdout + first.stderr), first
    # Fragmented by the sender itself, which knows the path now; the other end learns it by its first answer.
    there = address6(line.node(3))
    said = run(line.node(1), "ping", "-6", "-c", "3", "-i", "0.2", "-W", "5", "-s", "1400", there)
    assert "1408 bytes from" in said


def test_flows_without_programs_cross_narrower_links(line: Lab) -> None:
    [flow] = line.flows.wait(*line.flows.add(1, 4, bytes=2_000_000), timeout=20)
    assert (flow.state, flow.bytes) == ("finished", 2_000_000)
