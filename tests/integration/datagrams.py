"""Send numbered datagrams between nodes, and count and time them at the receiver.

Runs in the nodes, as a plain program on ordinary sockets:

    datagrams.py receive ADDRESS PORT
    datagrams.py send ADDRESS PORT COUNT SEGMENTS SECONDS

The sender says the end until the receiver has heard it; the network keeps the order, so the end comes last.
A TUN device drops what its queue has no room for, before our network sees it; the sender looks at the
device's counter and sends as much again. What the receiver's socket had no room for has arrived, and counts.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import time

SEGMENT = 1400
"""Payload of a datagram of a super-packet."""

END = b"end"

UDP_SEGMENT = 103  # linux/udp.h; Python does not name it
SO_RCVBUFFORCE, SO_TIMESTAMPNS, SO_MEMINFO = 33, 35, 55  # asm-generic/socket.h
ROOM = 256 * 1024 * 1024
"""Room for everything that may arrive while the receiver does not get a processor."""

BATCH = 64
"""Datagrams between two looks at the device's counter; its queue takes some hundreds."""

SILENCE_S = 20.0


def receive(address: str, port: int) -> None:
    """Print how many datagrams came, and the delays of those that carried a time."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        sock.settimeout(SILENCE_S)
        sock.bind((address, port))
        count = 0
        delays_ms: list[float] = []
        while True:
            data, ancillary, _, sender = sock.recvmsg(65_536, 64)
            if data == END:
                sock.sendto(END, sender)
                break
            count += 1
            if len(data) == 8 and ancillary:
                seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
                delays_ms.append((seconds * 10**9 + nanoseconds - int.from_bytes(data)) / 1e6)
        overflowed = struct.unpack("9I", sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36))[8]
    print(json.dumps({"count": count + overflowed, "delays_ms": delays_ms}))


def send(address: str, port: int, count: int, segments: int, seconds: float) -> None:
    """Send datagrams: `segments` in one piece, as fast as the device takes them or spread over some time."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((address, port))
        if segments > 1:
            sock.setsockopt(socket.SOL_UDP, UDP_SEGMENT, SEGMENT)
        due, dropped_before, start = count // segments, dropped(), time.monotonic()
        done = 0
        while done < due:
            batch = 1 if seconds > 0 else min(BATCH, due - done)
            wait = start + seconds * done / due - time.monotonic()
            if seconds > 0 and wait > 0:
                time.sleep(wait)
            for _ in range(batch):
                sock.send(time.time_ns().to_bytes(8) if segments == 1 else bytes(SEGMENT * segments))
            refused = dropped() - dropped_before
            dropped_before += refused
            done += batch - refused
            if refused:
                time.sleep(0.001)  # the device is being emptied
        say_the_end(sock)


def say_the_end(sock: socket.socket) -> None:
    """Say it until there is an answer; one may be lost, or find a queue that is full."""
    sock.setsockopt(socket.SOL_UDP, UDP_SEGMENT, 0)
    sock.settimeout(0.05)
    for _ in range(100):
        try:
            sock.send(END)
            sock.recv(16)
        except TimeoutError:
            continue
        except ConnectionRefusedError:
            pass  # the answer was lost, and the receiver is gone
        return


def dropped() -> int:
    """Return what the TUN device has dropped because nobody had emptied it."""
    with open("/proc/net/dev") as lines:  # noqa: PTH123  # read for every batch
        (values,) = (line.split() for line in lines if line.lstrip().startswith("utun:"))
    return int(values[12])


def main() -> None:
    """Do what the command line says."""
    what, address, port, *rest = sys.argv[1:]
    if what == "receive":
        receive(address, int(port))
    else:
        count, segments, seconds = rest
        send(address, int(port), int(count), int(segments), float(seconds))


if __name__ == "__main__":
    main()
