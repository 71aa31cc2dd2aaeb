"""Ping every other node from every node, and report who did not answer.

One socket per node sends to all others and collects the answers, so thirty-six nodes need thirty-six threads
and no `ping` process. Linux offers unprivileged ICMP sockets to the groups in `net.ipv4.ping_group_range`;
where it does not, a raw socket does the same for those who may open one.
"""

from __future__ import annotations

import os
import socket
import statistics
import struct
import time
from typing import Any

ECHO_REQUEST = 8  # RFC 792
ECHO_REPLY = 0
BURST = 32
"""Requests in flight at most: far below any queue, so that the scenario tests reach and not overload."""


def pinger(ctx: Any) -> None:
    """Send `count` requests to each other node and report reach and round-trip times in milliseconds."""
    others = [node for node in ctx.nodes() if node != ctx.node]
    ctx.barrier("all here")
    with Echo(ctx.params.size) as echo:
        times = echo.run([ctx.address(node) for node in others] * ctx.params.count, ctx.params.wait)
    answers: dict[int, list[float]] = {node: [] for node in others}
    for index, seconds in times.items():
        answers[others[index % len(others)]].append(seconds)
    rtts = [seconds * 1e3 for values in answers.values() for seconds in values]
    ctx.report(
        targets=len(others),
        reached=sum(1 for values in answers.values() if values),
        lost=len(others) * ctx.params.count - len(rtts),
        silent=[node for node, values in answers.items() if not values],
        rtt_ms_median=round(statistics.median(rtts), 3) if rtts else None,
        rtt_ms_max=round(max(rtts), 3) if rtts else None,
    )
    ctx.barrier("all done")


class Echo:
    """An ICMP echo socket of the calling thread's network namespace."""

    def __init__(self, size: int) -> None:
        self._identifier = os.urandom(2)
        self._payload = bytes(size)
        try:
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
            self._raw = False
        except PermissionError:
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
            self._raw = True

    def __enter__(self) -> Echo:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def run(self, targets: list[str], wait_s: float) -> dict[int, float]:
        """Send one request to each target, in bursts, and return round-trip seconds by index in `targets`."""
        times: dict[int, float] = {}
        for start in range(0, len(targets), BURST):
            burst = range(start, min(start + BURST, len(targets)))
            sent = {index: self._send(targets[index], index) for index in burst}
            self._collect(sent, times, time.monotonic() + wait_s)
        return times

    def _send(self, target: str, sequence: int) -> float:
        header = struct.pack("!BBH2sH", ECHO_REQUEST, 0, 0, self._identifier, sequence & 0xFFFF)
        checksum = internet_checksum(header + self._payload)
        header = struct.pack("!BBH2sH", ECHO_REQUEST, 0, checksum, self._identifier, sequence & 0xFFFF)
        now = time.monotonic()
        self._socket.sendto(header + self._payload, (target, 0))
        return now

    def _collect(self, sent: dict[int, float], times: dict[int, float], deadline: float) -> None:
        missing = {index & 0xFFFF: index for index in sent}
        while missing and (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                packet = self._socket.recv(65535)
            except TimeoutError:
                return
            now = time.monotonic()
            if self._raw:
                packet = packet[(packet[0] & 15) * 4 :]
            kind, _, _, identifier, sequence = struct.unpack_from("!BBH2sH", packet)
            if kind != ECHO_REPLY or (self._raw and identifier != self._identifier):
                continue
            if (index := missing.pop(sequence, None)) is not None:
                times[index] = now - sent[index]


def internet_checksum(data: bytes) -> int:
    """Return the ones' complement checksum of RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
