"""Test captures of a real lab: they have what the counters count, and every loss with its cause."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.capture import CaptureFailed
from orchestrator.deploy.home import Home
from orchestrator.errors import UsageError
from orchestrator.lab import Lab
from tests.capture.pcap import File, need_libpcap, read
from tests.integration.conftest import Nm, shared_lab
from tests.integration.services import need

pair = shared_lab(
    "name: pair\ntopology: {type: line, n_nodes: 3}\n"
    "defaults: {link: {rate: 200 Mbit, delay: 1 ms, loss: 1 %}}\n"
)

STREAM = """
import socket, time

def end(ctx):
    before = counters(ctx)
    if ctx.node == 1:
        with socket.create_server(("", 5000)) as server:
            ctx.barrier("listening")
            connection, _ = server.accept()
            with connection:
                while connection.recv(1 << 16):
                    pass
    else:
        ctx.barrier("listening")
        with socket.create_connection((ctx.address(1), 5000)) as connection:
            connection.sendall(bytes(8_000_000))
    ctx.barrier("sent")
    after = settled(ctx)
    ctx.report(**{key: after[key] - before[key] for key in after})
    ctx.barrier("counted")

def counters(ctx):
    (link,) = (each for each in ctx.dataplane.statistics()["links"] if each["remote"] == 3 - ctx.node)
    return {"packets": link["tx_packets"], "bytes": link["tx_bytes"], "lost": link["tx_drops"].get("loss", 0)}

def settled(ctx):
    # The end of a connection may be lost and sent again.
    deadline, found, since = time.monotonic() + 20, counters(ctx), time.monotonic()
    while time.monotonic() < deadline and time.monotonic() < since + 1.5:
        time.sleep(0.1)
        if counters(ctx) != found:
            found, since = counters(ctx), time.monotonic()
    return found
"""


def test_a_stream_is_captured_as_the_counters_count_it(pair: Lab, tmp_path: Path) -> None:
    (tmp_path / "roles.py").write_text(STREAM)
    lines = ["roles: {end: {nodes: [1, 2]}}", "capture:", "  - {link: [1, 2]}", "  - {node: 2, snaplen: 64}"]
    (tmp_path / "scenario.yaml").write_text("\n".join(lines))
    outcome = pair.run_scenario(tmp_path, results=tmp_path / "out")
    assert outcome.verdict == "pass", outcome.reason
    captures = Path(outcome.results) / "captures"
    link, node = read(captures / "link-1-2.pcapng"), read(captures / "node-2.pcapng")
    rows = {row["node"]: row for row in outcome.rows}
    for source, to in ((1, 2), (2, 1)):
        check_direction(link, f"node-{source}>node-{to}", rows[source])
    assert rows[2]["lost"] > 20, "of 5,600 segments"
    assert node.count("node-2") > 5_000
    assert max(len(each.data) for each in node.packets) == 64
    events = [json.loads(line) for line in (captures.parent / "events.jsonl").read_text().splitlines()]
    files = {each["data"]["file"]: each["data"] for each in events if each["kind"] == "capture"}
    assert set(files) == {"captures/link-1-2.pcapng", "captures/node-2.pcapng"}
    assert files["captures/link-1-2.pcapng"]["packets"] == len(link.packets)


def check_direction(file: File, way: str, row: Mapping[str, Any]) -> None:
    """Compare the packets of a direction with its counters."""
    before, after, dropped = (f"{way} {point}" for point in ("before", "after", "dropped"))
    assert (file.count(after), file.bytes(after)) == (row["packets"], row["bytes"])
    assert file.comments(dropped) == ({"dropped: loss": row["lost"]} if row["lost"] else {})
    assert file.count(before) == file.count(after) + file.count(dropped)
    assert file.statistics[after] == (row["packets"], 0)
    assert all(abs(each.time_s - time.time()) < 60 for each in file.packets[:10])


def test_two_captures_of_one_node_are_independent_and_filtered(pair: Lab, tmp_path: Path) -> None:
    need("ping")
    need_libpcap()
    with (
        pair.capture(tmp_path / "icmp.pcapng", node=2, filter="icmp[0] == 8"),
        pair.capture(tmp_path / "all.pcapng", node=2),
    ):
        done = pair.node(2).run(["ping", "-c", "20", "-i", "0.02", "-W", "1", pair.node(3).address])
        assert "20 packets transmitted" in done.stdout
    requests, everything = read(tmp_path / "icmp.pcapng"), read(tmp_path / "all.pcapng")
    assert requests.count("node-2") == 20
    assert 30 < everything.count("node-2") <= 40


def test_a_node_that_is_killed_ends_its_part_of_a_file(pair: Lab, tmp_path: Path) -> None:
    capture = pair.capture(tmp_path / "killed.pcapng", node=3)
    try:
        pair.node(3).kill()
        recorded = capture.wait(10)
        assert recorded is not None and recorded.ended == "nodes"
        assert read(tmp_path / "killed.pcapng").interfaces == ["node-3", "node-3 dropped"]
        with pytest.raises((UsageError, CaptureFailed), match="stopped by request"):
            pair.capture(tmp_path / "not.pcapng", node=3)
    finally:
        pair.node(3).start()


def test_an_interrupt_is_the_usual_end_of_the_command(pair: Lab, home: Home, tmp_path: Path) -> None:
    process = Nm(home, tmp_path).start("capture", 1)
    try:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("capturing node-1 into pair-node-1.pcapng")
        process.send_signal(signal.SIGINT)
        _out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert "(interrupted)" in err
    assert set(read(tmp_path / "pair-node-1.pcapng").statistics) == {"node-1", "node-1 dropped"}


def test_the_command_says_what_it_has_and_refuses_what_is_not_there(
    pair: Lab, home: Home, tmp_path: Path
) -> None:
    nm = Nm(home, tmp_path)
    said = nm("capture", "--link", 1, 2, "--duration", 0.2, "-w", tmp_path / "c.pcapng", "-o", "json")
    assert said.code == 0, said.err
    assert said.json["ended"] == "duration"
    assert len(said.json["interfaces"]) == len(read(tmp_path / "c.pcapng").interfaces) == 6
    for words, id_ in (
        (("9",), "selector"),
        (("--link", 1, 3), "capture.no-link"),
        ((), "capture.target"),
        (("1", "--snaplen", 1), "capture.option"),
    ):
        said = nm("capture", *words, "-o", "json")
        assert said.code == 2
        assert id_ in said.error["id"], said.error
    said = nm("capture", 1, "-w", tmp_path / "none" / "c.pcapng", "-o", "json")
    assert (said.code, said.error["id"]) == (4, "capture.unwritable")
