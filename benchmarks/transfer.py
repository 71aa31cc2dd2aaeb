"""Send pseudo-random bytes, receive them, and report their hash and time.

A program of its own, started in the network of an end; the standard library is all it needs.

    transfer.py receive ADDRESS PORT            prints "listening", then what arrived, as JSON
    transfer.py send ADDRESS PORT BYTES SEED    prints what left, as JSON
    transfer.py flood ADDRESS PORT              sends until it is ended
    transfer.py watch ADDRESS PORT              as receive, without a hash; ends when its input is closed
"""

from __future__ import annotations

import hashlib
import json
import random
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator
from typing import Any

__all__ = ["CHUNK", "chunks", "main"]

CHUNK = 1 << 20
_CONNECT_SECONDS = 10.0
_IDLE_SECONDS = 30.0


def chunks(total: int, seed: int) -> Iterator[memoryview]:
    """Yield `total` pseudo-random bytes in pieces; each begins with its own number.

    The number makes a piece that was repeated, lost or put in another place change the hash. The view is
    valid until the next one is asked for.
    """
    block = bytearray(random.Random(seed).randbytes(CHUNK))
    view = memoryview(block)
    for number, begin in enumerate(range(0, total, CHUNK)):
        struct.pack_into("<Q", block, 0, number)
        yield view[: min(CHUNK, total - begin)]


def main(words: list[str]) -> int:
    """Run one of the four verbs and return the exit code."""
    verb, address, port = words[0], words[1], int(words[2])
    if verb == "receive":
        _receive(address, port)
    elif verb == "watch":
        _watch(address, port)
    elif verb == "send":
        _send(address, port, int(words[3]), int(words[4]))
    else:
        _flood(address, port)
    return 0


def _send(address: str, port: int, total: int, seed: int) -> None:
    digest = hashlib.sha256()
    begin = time.monotonic()
    with socket.create_connection((address, port), _CONNECT_SECONDS) as connection:
        connection.settimeout(_IDLE_SECONDS)
        for piece in chunks(total, seed):
            digest.update(piece)
            connection.sendall(piece)
    _say(bytes=total, sha256=digest.hexdigest(), seconds=time.monotonic() - begin)


def _flood(address: str, port: int) -> None:
    piece = bytes(CHUNK)
    with socket.create_connection((address, port), _CONNECT_SECONDS) as connection:
        connection.settimeout(_IDLE_SECONDS)
        try:
            while True:
                connection.sendall(piece)
        except OSError:
            return  # the receiver left, or the link has been down for long enough


def _receive(address: str, port: int) -> None:
    digest, total, begin = hashlib.sha256(), 0, time.monotonic()
    buffer = bytearray(CHUNK)
    with _accept(address, port) as connection:
        connection.settimeout(_IDLE_SECONDS)
        while count := connection.recv_into(buffer):
            digest.update(memoryview(buffer)[:count])
            total += count
    _say(bytes=total, sha256=digest.hexdigest(), seconds=time.monotonic() - begin)


def _watch(address: str, port: int) -> None:
    total, last = 0, 0.0
    buffer = bytearray(CHUNK)
    with _accept(address, port) as connection:
        print("connected", flush=True)
        while True:
            ready, _, _ = select.select([connection, sys.stdin], [], [], _IDLE_SECONDS)
            if connection in ready:
                count = connection.recv_into(buffer)
                if count == 0:
                    break
                total += count
                last = time.monotonic()
            elif sys.stdin in ready or not ready:
                break
    _say(bytes=total, last_arrival=last)


def _accept(address: str, port: int) -> socket.socket:
    with socket.create_server((address, port)) as server:
        server.settimeout(_CONNECT_SECONDS)
        print("listening", flush=True)
        connection, _ = server.accept()
    return connection


def _say(**record: Any) -> None:
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
