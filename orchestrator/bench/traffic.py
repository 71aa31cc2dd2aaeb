"""Send and receive the traffic of the fidelity benchmark; prints what it saw as JSON.

The program runs on its own (`python3 -I - ROLE KIND JSON`, its text on standard input), in the network of a
node or of a reference, so it needs Python's standard library alone. Times are those of the kernel: a packet's
delay is from just before the system call that sends it to its arrival at the receiver's network stack
(SO_TIMESTAMPNS), so that a receiver that is waked late does not count.

tcp       one stream; received bytes per second after a warm-up
delays    numbered datagrams at a fixed interval, each with the time at which it was sent
numbers   numbered datagrams in super-packets, as fast as stated: which were lost
shares    datagrams of several sizes to several ports, faster than the link: bytes by port
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import sys
import threading
import time
from typing import Any

PORT = 5201
HELLO, READY, END = b"hello", b"ready", b"end"
SO_TIMESTAMPNS, SO_RXQ_OVFL, SO_RCVBUFFORCE = 35, 40, 33
UDP_SEGMENT, UDP_GRO = 103, 104
LIMIT_S = 5.0
"""How long either end waits for the other, beyond the time that the traffic takes."""
BUFFER = 64 << 20
SEGMENTS = 40
"""Datagrams of one super-packet."""


def main(role: str, kind: str, options: dict[str, Any]) -> dict[str, Any]:
    """Play one role; return what it saw."""
    found: dict[str, Any] = globals()[f"{role}_{kind}"](**options)
    return found


# One TCP stream.


def receive_tcp(warm_up: float, seconds: float, **others: Any) -> dict[str, Any]:
    """Count the bytes that arrive from `warm_up` seconds after the first one on, for `seconds`."""
    with socket.create_server(("", PORT)) as server:
        server.settimeout(2 * LIMIT_S)
        stream, _ = server.accept()
    buffer = bytearray(1 << 20)
    with stream:
        stream.settimeout(LIMIT_S)
        begin = last = first = 0.0
        counted = 0
        while True:
            size = stream.recv_into(buffer)
            now = time.monotonic()
            begin = begin or now
            if not size or now > begin + warm_up + seconds:
                break
            if first:
                counted, last = counted + size, now
            elif now > begin + warm_up:
                first = last = now
    return {"bps": counted * 8 / (last - first) if last > first else 0.0}


def send_tcp(address: str, warm_up: float, seconds: float, **others: Any) -> dict[str, Any]:
    """Send until the receiver has enough."""
    end = time.monotonic() + LIMIT_S
    while True:
        try:
            stream = socket.create_connection((address, PORT), timeout=LIMIT_S)
            break
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
    with contextlib.suppress(OSError):  # the default of the machine, then
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
    chunk, end = bytes(1 << 18), time.monotonic() + warm_up + seconds + LIMIT_S
    with stream:
        try:
            while time.monotonic() < end:
                stream.sendall(chunk)
        except OSError:  # the receiver closed it
            pass
    return {}


# Datagrams.


def _receiver(port: int = PORT) -> socket.socket:
    """A bound socket whose sender was answered; a datagram that says hello may come once more."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    except OSError:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    bound.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
    bound.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    bound.bind(("", port))
    bound.settimeout(2 * LIMIT_S)
    _, sender = bound.recvfrom(64)
    for _ in range(10):
        bound.sendto(READY, sender)
    bound.settimeout(LIMIT_S)
    return bound


def _sender(address: str, port: int = PORT) -> socket.socket:
    """A connected socket whose receiver has answered, with nothing of that on the way any more."""
    connected = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    connected.connect((address, port))
    end = time.monotonic() + 2 * LIMIT_S
    connected.settimeout(0.3)
    while True:
        try:
            connected.send(HELLO)
            connected.recv(64)
            break
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
    connected.settimeout(None)
    time.sleep(0.3)
    return connected


def _finish(connected: socket.socket) -> None:
    for _ in range(10):
        time.sleep(0.05)
        try:
            connected.send(END)
        except OSError:  # the receiver is gone already
            return


def send_delays(
    address: str,
    count: int,
    interval: float,
    size: int = 100,
    batch: int = 1,
    offload: bool = False,
    load_bps: float = 0.0,
    baseline: bool = False,
    **others: Any,
) -> dict[str, Any]:
    """Send `batch` datagrams at once, `count` in all; with `load_bps` amid datagrams of another socket.

    With `baseline`, it first measures the delay between two sockets of this node, without a link.
    """
    found = {"baseline": _own_delays(count, interval, size)} if baseline else {}
    connected = _sender(address)
    load = _start_load(address, load_bps) if load_bps else None
    if offload:
        connected.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, size)
    due = time.monotonic()
    rest = bytes(size - 12)
    for first in range(0, count, batch):
        now = time.time_ns()
        group = [struct.pack("!IQ", number, now) + rest for number in range(first, first + batch)]
        for data in [b"".join(group)] if offload else group:
            connected.send(data)
        due += interval
        time.sleep(max(0.0, due - time.monotonic()))
    if load is not None:
        os.kill(load, signal.SIGKILL)
        os.waitpid(load, 0)
    if offload:
        connected.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 0)
    _finish(connected)
    return {"sent": count, **found}


def _own_delays(count: int, interval: float, size: int) -> list[int]:
    """Delays in nanoseconds over the loopback device."""
    delays = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        bound.settimeout(LIMIT_S)
        bound.bind(("127.0.0.1", 0))
        bound.connect(bound.getsockname())
        for _ in range(count):
            time.sleep(interval)
            begin = time.time_ns()
            bound.send(bytes(size))
            _, extra, _, _ = bound.recvmsg(2048, 256)
            delays.append(_stamp(extra) - begin)
    return delays


def _stamp(extra: Any) -> int:
    """When a datagram arrived, in nanoseconds."""
    stamp = next(value for _, kind, value in extra if kind == SO_TIMESTAMPNS)
    seconds, nanos = struct.unpack("@ll", stamp[:16])
    return int(seconds * 10**9 + nanos)


def _start_load(address: str, bps: float) -> int:
    """Start a process that sends datagrams of 1,000 bytes with headers to a port that nobody reads.

    It is a process of its own, and after a late wake-up it does not catch up: a burst of the sender would
    wait in the queue of the link, which is not the delay that is measured.
    """
    child = os.fork()
    if child:
        time.sleep(0.2)
        return child
    data, end = bytes(972), time.monotonic() + 60.0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as away:
        due = time.monotonic()
        while due < end:
            with contextlib.suppress(OSError):
                away.sendto(data, (address, 9))
            due = max(due + 8_000 / bps, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
    os._exit(0)


def receive_delays(count: int, **others: Any) -> dict[str, Any]:
    """The delay of each datagram and when it arrived, in nanoseconds."""
    bound = _receiver()
    delays: list[int] = []
    arrivals: list[int] = []
    while len(delays) < count:
        try:
            data, extra, _, _ = bound.recvmsg(2048, 256)
        except TimeoutError:
            break
        if data == END:
            break
        if data == HELLO:
            continue
        arrivals.append(_stamp(extra))
        delays.append(arrivals[-1] - struct.unpack_from("!Q", data, 4)[0])
    first = arrivals[0] if arrivals else 0
    return {"delays": delays, "arrivals": [each - first for each in arrivals]}


def send_numbers(address: str, count: int, rate: float, size: int = 64, **others: Any) -> dict[str, Any]:
    """Send `count` numbered datagrams, `rate` a second, in super-packets."""
    connected = _sender(address)
    connected.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, size)
    packed = struct.Struct("!" + f"I{size - 4}x" * SEGMENTS)
    due = time.monotonic()
    for first in range(0, count, SEGMENTS):
        connected.send(packed.pack(*range(first, first + SEGMENTS)))
        due += SEGMENTS / rate
        left = due - time.monotonic()
        if left > 0.001:
            time.sleep(left)
    connected.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 0)
    _finish(connected)
    return {"sent": count}


def receive_numbers(count: int, size: int = 64, **others: Any) -> dict[str, Any]:
    """How many of the numbers did not arrive, in how many runs, and what its buffer could not take."""
    bound = _receiver()
    bound.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    number = struct.Struct(f"!I{size - 4}x")
    seen, overflow = bytearray(count), 0
    while True:
        try:
            data, extra, _, _ = bound.recvmsg(1 << 16, 256)
        except TimeoutError:
            break
        if len(data) < size:
            if data == END:
                break
            continue
        for (index,) in number.iter_unpack(data):
            seen[index] = 1
        for _, kind, value in extra:
            if kind == SO_RXQ_OVFL:
                overflow = int(struct.unpack("@I", value)[0])
    lost = seen.count(0)
    bursts = seen.count(b"\x01\x00") + (seen[:1] == b"\x00")
    return {"lost": lost, "bursts": bursts, "overflow": overflow}


def send_shares(
    address: str, ports: list[int], sizes: list[int], seconds: float, bps: float, **others: Any
) -> dict[str, Any]:
    """Send `bps` to each port, in datagrams of the stated sizes with headers."""
    sockets = [_sender(address, port) for port in ports]
    next_at = [0.0 for _ in sizes]
    data = bytes(max(sizes) - 28)
    begin = time.monotonic()
    end = begin + seconds
    while (now := time.monotonic()) < end:
        for index, size in enumerate(sizes):
            while next_at[index] < now - begin:
                sockets[index].send(data[: size - 28])
                next_at[index] += size * 8 / bps
        time.sleep(0.001)
    for connected in sockets:
        _finish(connected)
    return {}


def receive_shares(ports: list[int], seconds: float, warm_up: float, **others: Any) -> dict[str, Any]:
    """Bytes with headers that arrive at each port from `warm_up` seconds after the first datagram on."""
    counts = [0] * len(ports)

    def read(index: int) -> None:
        bound = _receiver(ports[index])
        first = 0.0
        while True:
            try:
                size = len(bound.recv(2048))
            except TimeoutError:
                return
            if size <= len(HELLO):
                if size == len(END):
                    return
                continue
            now = time.monotonic()
            first = first or now
            if first + warm_up < now < first + seconds:
                counts[index] += size + 28

    threads = [threading.Thread(target=read, args=(index,)) for index in range(len(ports))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"bytes": counts}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))))
