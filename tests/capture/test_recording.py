"""Test files of captures with a node whose process is played by the test."""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.capture import (
    CaptureFailed,
    CaptureUnwritable,
    Interface,
    Recorded,
    Recording,
    Source,
    link_interfaces,
    node_interfaces,
    recording,
)
from tests.capture.pcap import File, read

Script = Callable[[socket.socket], None]


def block(number: int, data: bytes = bytes(60), comment: bytes = b"") -> bytes:
    """Return an enhanced packet block as a node sends it."""
    options = b"" if not comment else struct.pack("<HH", 1, len(comment)) + comment + bytes(-len(comment) % 4)
    options += bytes(4) if comment else b""
    body = struct.pack("<IIIII", number, 1, 2, len(data), len(data)) + data + bytes(-len(data) % 4) + options
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", 6) + length + body + length


def frame(kind: bytes, content: bytes) -> bytes:
    """Return a frame as a node sends it."""
    return struct.pack("<I", len(content)) + kind + content


def statistics(**values: int) -> bytes:
    """Return the frame of the counts of interface 0."""
    counts = {"interface": 0, "received": 0, "accepted": 0, "bytes": 0, "missed": 0, **values}
    return frame(b"S", json.dumps([counts]).encode())


class Process:
    """A process that carries a node: answers a request, does what a script says, and waits for the end."""

    def __init__(self, node: int, script: Script, error: str = "") -> None:
        self.request: dict[str, Any] = {}
        ours, theirs = socket.socketpair()
        self.source = Source(node, ours)
        self._error = error
        self._script = script
        self.thread = threading.Thread(target=self._run, args=(theirs,), daemon=True)
        self.thread.start()

    def _run(self, connection: socket.socket) -> None:
        with connection:
            self.request = json.loads(connection.makefile().readline())
            connection.sendall(json.dumps({"error": self._error}).encode() + b"\n")
            if not self._error:
                self._script(connection)


def until_closed(connection: socket.socket) -> None:
    """Wait until the other side ends the capture."""
    connection.settimeout(10)
    assert connection.recv(1) == b""


def name(node: int) -> str:
    """Name nodes as a topology does."""
    return f"n{node}"


def record(path: Path, *processes: Process, link: bool = False, **options: Any) -> tuple[Recorded, File]:
    """Record until the end, and read the file."""
    interfaces: list[Interface] = link_interfaces(1, 2, name) if link else node_interfaces(1, name)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        running = Recording([each.source for each in processes], interfaces, descriptor, **options)
        running.begin()
        recorded = running.run()
    finally:
        os.close(descriptor)
    return recorded, read(path)


def test_a_file_has_the_packets_of_two_nodes_and_says_what_was_missed(tmp_path: Path) -> None:
    def first(connection: socket.socket) -> None:
        whole = frame(b"B", block(0) + block(2, comment=b"dropped: loss"))
        connection.sendall(whole[:30])  # a frame may arrive in pieces
        connection.sendall(whole[30:] + statistics(received=5, accepted=1, bytes=60, missed=4))

    def second(connection: socket.socket) -> None:
        connection.sendall(frame(b"B", block(3, bytes(600_000))) + frame(b"B", block(4)))

    one, two = Process(1, first), Process(2, second)
    recorded, file = record(tmp_path / "two.pcapng", one, two, link=True)
    assert file.interfaces[:4] == ["n1>n2 before", "n1>n2 after", "n1>n2 dropped", "n2>n1 before"]
    found = {name: file.count(name) for name in file.interfaces if file.count(name)}
    assert found == {"n1>n2 before": 1, "n1>n2 dropped": 1, "n2>n1 before": 1, "n2>n1 after": 1}
    assert file.comments("n1>n2 dropped") == {"dropped: loss": 1}
    assert file.statistics["n1>n2 before"] == (5, 4)
    assert (recorded.ended, recorded.total("missed")) == ("nodes", 4)
    assert [each["number"] for each in two.request["interfaces"]] == [3, 4, 5]
    assert one.request["epoch_ns"] == two.request["epoch_ns"]


def test_the_time_ends_a_capture_with_what_the_node_still_sends(tmp_path: Path) -> None:
    def late(connection: socket.socket) -> None:
        until_closed(connection)
        connection.sendall(frame(b"B", block(0)) + statistics(received=1, accepted=1, bytes=60))

    recorded, file = record(tmp_path / "late.pcapng", Process(1, late), duration_s=0.05)
    assert (recorded.ended, len(file.packets)) == ("duration", 1)
    assert recorded.interfaces[0]["packets"] == 1


def test_the_limit_ends_a_file_with_a_whole_packet(tmp_path: Path) -> None:
    def much(connection: socket.socket) -> None:
        for _ in range(50):
            connection.sendall(frame(b"B", block(0, bytes(1000)) * 10))
        connection.sendall(statistics(received=500, accepted=500, bytes=500_000))
        until_closed(connection)

    recorded, file = record(tmp_path / "limit.pcapng", Process(1, much), limit=20_000)
    assert recorded.ended == "limit"
    assert recorded.total("packets") == len(file.packets), "what the limit left out is not counted"
    assert recorded.interfaces[0]["bytes"] == file.bytes("n1")
    assert 18_000 < sum(map(len, (each.data for each in file.packets))) <= 20_000
    assert (tmp_path / "limit.pcapng").stat().st_size < 20_000 + 500


def test_a_node_that_is_killed_amid_a_packet_leaves_a_whole_file(tmp_path: Path) -> None:
    def killed(connection: socket.socket) -> None:
        connection.sendall(frame(b"B", block(0)) + frame(b"B", block(0))[:40])

    said: list[str] = []
    recorded, file = record(tmp_path / "killed.pcapng", Process(1, killed), told=said.append)
    assert (recorded.ended, len(file.packets)) == ("nodes", 1)
    assert len(said) == 1
    assert said[0].startswith("node 1 ended its part of the capture within a frame")


def test_a_node_that_ends_between_frames_ends_its_part(tmp_path: Path) -> None:
    said: list[str] = []
    whole = Process(1, lambda connection: connection.sendall(frame(b"B", block(0))))
    record(tmp_path / "whole.pcapng", whole, told=said.append)
    assert said == ["node 1 has ended, and its part of the capture with it"]


def test_a_reader_that_goes_away_ends_the_capture() -> None:
    reader, writer = os.pipe()
    process = Process(1, until_closed)
    running = Recording([process.source], node_interfaces(1, name), writer)
    running.begin()
    os.close(reader)
    assert running.run().ended == "reader"
    process.thread.join(10)
    assert not process.thread.is_alive(), "the node was told"
    os.close(writer)


def test_a_full_disk_leaves_whole_blocks_and_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def much(connection: socket.socket) -> None:
        connection.sendall(frame(b"B", block(0)) + frame(b"B", block(0)))
        until_closed(connection)

    written: list[int] = []

    def write(descriptor: int, data: memoryview) -> int:
        if len(written) < 3:  # header, one packet, and half of another
            part = data[: len(data) // 2] if len(written) == 2 else data
            written.append(os.pwrite(descriptor, part, sum(written)))
            return written[-1]
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(recording.os, "write", write)
    with pytest.raises(CaptureUnwritable) as caught:
        record(tmp_path / "full.pcapng", Process(1, much))
    assert "No space left on device" in caught.value.message
    assert caught.value.exit_code == 4
    assert len(read(tmp_path / "full.pcapng").packets) == 1


def test_a_node_that_refuses_is_named_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(CaptureFailed) as caught:
        record(tmp_path / "no.pcapng", Process(1, until_closed, "node 1 does not run in this process"))
    assert "node 1 does not run in this process" in caught.value.message


def test_a_stop_from_another_thread_ends_the_capture(tmp_path: Path) -> None:
    process = Process(1, until_closed)
    with (tmp_path / "stop.pcapng").open("wb") as file:
        running = Recording([process.source], node_interfaces(1, name), file.fileno())
        running.begin()
        running.stop()
        assert running.run().ended == "stopped"
