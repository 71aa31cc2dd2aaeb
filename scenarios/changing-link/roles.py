"""Measure what a changing link does: the throughput of a TCP stream, and the round trip and loss of probes.

Both roles pass a barrier first, so that their times count from nearly the same moment as those of the
timeline. A row covers the time `params.every` up to `t`.
"""

from __future__ import annotations

import contextlib
import socket
import statistics
import struct
import threading
import time
from typing import Any

STREAM, PROBES = 5201, 5202
"""The TCP port of the stream and the UDP port of the probes."""

CHUNK = bytes(64 * 1024)
ANSWER_S = 1.0
"""How long the answer to a probe may take."""


def receiver(ctx: Any) -> None:
    """Count the bytes of the stream, and send probes back."""
    with socket.create_server(("0.0.0.0", STREAM)) as server, udp(PROBES) as probes:
        stop = threading.Event()
        echo = threading.Thread(target=send_back, args=(probes, stop))
        echo.start()
        ctx.barrier("listening")
        start = time.monotonic()
        try:
            server.settimeout(10)
            stream, _ = server.accept()
            with stream:
                count(ctx, stream, start)
            ctx.barrier("done")
        finally:
            stop.set()
            echo.join()


def sender(ctx: Any) -> None:
    """Send the stream, and probe the link at the same time."""
    ctx.barrier("listening")
    start = time.monotonic()
    receiver_address = ctx.address(ctx.nodes("receiver")[0])
    end = start + ctx.params.duration
    with socket.create_connection((receiver_address, STREAM), timeout=10) as stream:
        sending = threading.Thread(target=send_until, args=(stream, end))
        sending.start()
        try:
            with udp(0) as probes:
                probe(ctx, probes, (receiver_address, PROBES), start, end)
        finally:
            stream.shutdown(socket.SHUT_RDWR)
            sending.join()
    ctx.barrier("done")


def udp(port: int) -> socket.socket:
    """Return a UDP socket whose calls wait for 50 ms at most."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("0.0.0.0", port))
    sock.settimeout(0.05)
    return sock


def send_back(probes: socket.socket, stop: threading.Event) -> None:
    """Answer probes until told to stop."""
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            data, source = probes.recvfrom(2048)
            probes.sendto(data, source)


def send_until(stream: socket.socket, end: float) -> None:
    """Send as fast as the connection takes it."""
    stream.settimeout(1)
    with contextlib.suppress(OSError):  # the other end, or `sender`, has closed it
        while time.monotonic() < end:
            with contextlib.suppress(TimeoutError):
                stream.send(CHUNK)


def count(ctx: Any, stream: socket.socket, start: float) -> None:
    """Report the throughput of each interval until the stream ends."""
    stream.settimeout(0.02)
    every, buffer = ctx.params.every, bytearray(256 * 1024)
    number, received, since = 1, 0, start
    while True:
        got = None
        with contextlib.suppress(TimeoutError):
            got = stream.recv_into(buffer)
        received += got or 0
        now = time.monotonic()
        if now >= start + number * every:
            ctx.report(t=round(now - start, 3), mbit_per_s=round(received * 8e-6 / (now - since), 3))
            number, received, since = int((now - start) / every) + 1, 0, now
        if got == 0 or now > start + ctx.params.duration + ANSWER_S:
            return


def probe(ctx: Any, probes: socket.socket, target: tuple[str, int], start: float, end: float) -> None:
    """Send probes at a fixed pace, and report the round trips of those sent in each interval."""
    every, pace = ctx.params.every, ctx.params.probe
    sent: dict[int, float] = {}
    answers: dict[int, float] = {}
    reported = number = 0
    probes.setblocking(True)
    while (now := time.monotonic()) < end + ANSWER_S:
        due = start + number * pace
        if now >= due and due < end:
            sent[number] = now
            probes.sendto(struct.pack("!Q", number), target)
            number += 1
            continue
        probes.settimeout(max(0.0005, min(due - now, 0.01)))
        with contextlib.suppress(TimeoutError):
            index = struct.unpack("!Q", probes.recv(2048))[0]
            answers.setdefault(index, time.monotonic() - sent[index])
        # Those of an interval are counted when the last of them has had its time.
        if now >= start + (reported + 1) * every + ANSWER_S:
            reported += 1
            report_probes(ctx, reported * every, every, start, sent, answers)
    while (reported + 1) * every <= ctx.params.duration:
        reported += 1
        report_probes(ctx, reported * every, every, start, sent, answers)


def report_probes(
    ctx: Any, until: float, every: float, start: float, sent: dict[int, float], answers: dict[int, float]
) -> None:
    """Report the probes that were sent in the interval up to a time."""
    these = [index for index, at in sent.items() if until - every <= at - start < until]
    times = [answers[index] * 1e3 for index in these if index in answers]
    ctx.report(
        t=round(until, 3),
        probes=len(these),
        answered=len(times),
        rtt_ms_min=round(min(times), 3) if times else None,
        rtt_ms_median=round(statistics.median(times), 3) if times else None,
        rtt_ms_max=round(max(times), 3) if times else None,
    )
