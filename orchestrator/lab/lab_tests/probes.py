"""What a test of a lab runs inside nodes: pings, connections, requests, datagrams, a stream.

The program runs on its own (`python3 -I -S - KIND JSON`, its text on standard input) in the network of a
node, so it needs Python's standard library alone. It prints one line of JSON in the end. A receiver first
prints `ready`, and its sender is started after that: a measurement of one direction needs no packet of the
other. Times of arrival are those of the kernel (SO_TIMESTAMPNS), so that a receiver that is waked late
does not count.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
import sys
import time
from typing import Any

END = b"end"
IP_RECVERR, SO_EE_ORIGIN_ICMP = 11, 2
SO_TIMESTAMPNS = 35
IDLE_S = 3.0
"""A receiver ends when nothing has arrived for so long."""


def main(kind: str, options: dict[str, Any]) -> dict[str, Any]:
    """Do one thing; return what was seen."""
    found: dict[str, Any] = globals()[kind](**options)
    return found


def ping(targets: list[tuple[int, str]], attempts: int = 3, wait: float = 1.0) -> dict[str, Any]:
    """Ping each target until it answers, `attempts` times at most; return its seconds, None for no answer."""
    times: dict[int, float | None] = dict.fromkeys((number for number, _ in targets), None)
    for _ in range(attempts):
        missing = [(number, address) for number, address in targets if times[number] is None]
        for first in range(0, len(missing), 32):
            times.update(_ping_once(missing[first : first + 32], wait))
    return {"times": [[number, seconds] for number, seconds in times.items()]}


def _ping_once(targets: list[tuple[int, str]], wait: float) -> dict[int, float]:
    """Send one request to each target and collect the answers."""
    try:
        bound, raw = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP), False
    except PermissionError:
        bound, raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP), True
    identifier = os.urandom(2)
    sent: dict[int, tuple[int, float]] = {}
    found: dict[int, float] = {}
    with bound:
        for sequence, (number, address) in enumerate(targets):
            sent[sequence] = (number, time.monotonic())
            try:
                bound.sendto(_echo_request(identifier, sequence), (address, 0))
            except OSError:  # no route; an error that an earlier packet met is told here, too
                continue
        end = time.monotonic() + wait
        while len(found) < len(sent) and (left := end - time.monotonic()) > 0:
            bound.settimeout(left)
            try:
                packet = bound.recv(65_535)
            except OSError:
                continue
            packet = packet[(packet[0] & 15) * 4 :] if raw else packet
            kind, _, _, answered, sequence = struct.unpack_from("!BBH2sH", packet)
            if kind == 0 and sequence in sent and (not raw or answered == identifier):
                number, begin = sent[sequence]
                found.setdefault(number, time.monotonic() - begin)
    return found


def _echo_request(identifier: bytes, sequence: int) -> bytes:
    """An ICMP echo request (RFC 792) with its checksum (RFC 1071)."""
    header = struct.pack("!BBH2sH", 8, 0, 0, identifier, sequence)
    total = sum(struct.unpack("!4H", header))
    total = (total & 0xFFFF) + (total >> 16)
    total += total >> 16
    return struct.pack("!BBH2sH", 8, 0, ~total & 0xFFFF, identifier, sequence)


def tcp(targets: list[tuple[int, str]], port: int, wait: float = 3.0) -> dict[str, Any]:
    """Connect to a port of each target; return what went wrong by target, an empty text for nothing."""
    found = []
    for number, address in targets:
        try:
            socket.create_connection((address, port), timeout=wait).close()
            found.append([number, ""])
        except OSError as error:
            found.append([number, _reason(error)])
    return {"errors": found}


def http(url: str, wait: float = 10.0) -> dict[str, Any]:
    """Request a URL; return the status, or what went wrong."""
    import http.client
    import urllib.parse

    parts = urllib.parse.urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    try:
        connection = kind(parts.netloc, timeout=wait)
        path = parts.path or "/"
        connection.request("GET", f"{path}?{parts.query}" if parts.query else path)
        return {"status": connection.getresponse().status}
    except OSError as error:
        return {"error": _reason(error)}
    except (http.client.HTTPException, ValueError) as error:
        return {"error": f"the answer is not HTTP: {type(error).__name__} {error}"}


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (error.strerror or str(error)).lower()


def hops(address: str, most: int, attempts: int = 3, wait: float = 1.0) -> dict[str, Any]:
    """Find the nodes on the way with datagrams of growing TTL; return their addresses, "" for no answer."""
    found: list[str] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        bound.connect((address, 33_434))  # all of one flow, which takes one route
        for ttl in range(1, most + 1):
            bound.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
            answers = (_answer(bound, wait) for _ in range(attempts))
            found.append(next((answer for answer in answers if answer), ""))
            if found[-1] == address or found[-2:] == ["", ""]:
                break
    return {"hops": found}


def _answer(bound: socket.socket, wait: float) -> str:
    """Send a datagram; return the address that answers with an ICMP error."""
    try:
        bound.send(b"nm test")
    except OSError as error:
        if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
            return ""
    end = time.monotonic() + wait
    while time.monotonic() < end:
        try:
            _, extra, _, _ = bound.recvmsg(512, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
        except OSError:
            time.sleep(0.002)
            continue
        for level, kind, data in extra:
            # struct sock_extended_err, and behind it the address of who sent the error
            if (level, kind) == (socket.IPPROTO_IP, IP_RECVERR) and data[4] == SO_EE_ORIGIN_ICMP:
                return socket.inet_ntoa(data[20:24])
    return ""


def receive_stream(port: int, warm_up: float, duration: float) -> dict[str, Any]:
    """Count the bytes of a stream that arrive within `duration` after a warm-up; return bits per second."""
    buffer = bytearray(1 << 20)
    with socket.create_server(("", port)) as server:
        print("ready", flush=True)
        server.settimeout(2 * IDLE_S)
        stream, _ = server.accept()
    begin = time.monotonic() + warm_up
    counted, first, last = 0, 0.0, 0.0
    with stream:
        stream.settimeout(IDLE_S)
        while size := stream.recv_into(buffer):
            now = time.monotonic()
            if first:
                counted, last = counted + size, now
            elif now > begin:
                first = last = now
            if now > begin + duration:
                break
    return {"bps": counted * 8 / (last - first) if last > first else 0.0}


def send_stream(address: str, port: int, seconds: float) -> dict[str, Any]:
    """Send until the receiver has enough."""
    chunk, end = bytes(1 << 18), time.monotonic() + seconds
    with socket.create_connection((address, port), timeout=2 * IDLE_S) as stream:
        try:
            while time.monotonic() < end:
                stream.sendall(chunk)
        except OSError:  # the receiver closed it
            pass
    return {}


def receive_datagrams(port: int, count: int) -> dict[str, Any]:
    """Take numbered datagrams; return the delay in nanoseconds of each number that arrived."""
    delays: dict[int, int] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        bound.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        bound.bind(("", port))
        print("ready", flush=True)
        bound.settimeout(IDLE_S)
        while len(delays) < count:
            try:
                data, extra, _, _ = bound.recvmsg(2_048, 256)
            except TimeoutError:
                break
            if data.startswith(END):
                bound.settimeout(max(0.1, float(data[len(END) :])))  # what a longer way still delays
                continue
            number, sent = struct.unpack_from("!IQ", data)
            seconds, nanos = struct.unpack("@ll", extra[0][2][:16])
            delays.setdefault(number, seconds * 10**9 + nanos - sent)
    return {"delays": list(delays.values())}


def send_datagrams(address: str, port: int, count: int, interval: float) -> dict[str, Any]:
    """Send numbered datagrams, each with the time at which it was sent, then say that there are no more."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connected:
        connected.connect((address, port))
        due, refused = time.monotonic(), 0
        for number in range(count):
            try:
                connected.send(struct.pack("!IQ", number, time.time_ns()).ljust(36, b"\0"))
            except OSError:  # no route now: as good as lost
                refused += 1
            due += interval
            time.sleep(max(0.0, due - time.monotonic()))
        for left in (0.5, 0.4, 0.3, 0.2, 0.1):
            time.sleep(0.1)
            try:
                connected.send(END + str(left).encode())
            except OSError:  # the receiver is gone already
                break
    return {"sent": count, "refused": refused}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], json.loads(sys.argv[2]))))
