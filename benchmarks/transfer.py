"""Send pseudo-random bytes over TCP, receive them, and print their number, hash and time.

A separate program that runs inside an endpoint's network namespace; it needs only the standard library.

    transfer.py receive ADDRESS PORT
        print `listening`; at EOF print bytes received, hash and time as JSON
    transfer.py send ADDRESS PORT BYTES SEED
        print bytes sent, hash and time as JSON
    transfer.py flood ADDRESS PORT
        send until the process is ended or the connection fails
    transfer.py watch ADDRESS PORT
        count bytes without hashing until EOF, stdin close or 30 s idle; print `listening`, then `connected`
        first, and the bytes and the time of the last arrival as JSON at the end
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
    """Yield `total` pseudo-random bytes in chunks; each begins with its number.

    Because of the number, a chunk that is repeated, lost or reordered changes the hash. The view is valid
    until the next one is requested.
    """
    block = bytearray(random.Random(seed).randbytes(CHUNK))
    view = memoryview(block)
    for number, begin in enumerate(range(0, total, CHUNK)):
        struct.pack_into("<Q", block, 0, number)
        yield view[: min(CHUNK, total - begin)]


def main(words: list[str]) -> int:
    """Run one of the four subcommands and return the exit code."""
    command, address, port = words[0], words[1], int(words[2])
    if command == "receive":
        _receive(address, port)
    elif command == "watch":
        _watch(address, port)
    elif command == "send":
        _send(address, port, int(words[3]), int(words[4]))
    else:
        _flood(address, port)
    return 0


def _send(address: str, port: int, total: int, seed: int) -> None:
    digest = hashlib.sha256()
    begin = time.monotonic()
    with socket.create_connection((address, port), _CONNECT_SECONDS) as connection:
        connection.settimeout(_IDLE_SECONDS)
        for chunk in chunks(total, seed):
            digest.update(chunk)
            connection.sendall(chunk)
    _print_json(bytes=total, sha256=digest.hexdigest(), seconds=time.monotonic() - begin)


def _flood(address: str, port: int) -> None:
    chunk = bytes(CHUNK)
    with socket.create_connection((address, port), _CONNECT_SECONDS) as connection:
        connection.settimeout(_IDLE_SECONDS)
        try:
            while True:
                connection.sendall(chunk)
        except OSError:
            return  # the receiver closed the connection, or nothing could be sent for _IDLE_SECONDS


def _receive(address: str, port: int) -> None:
    digest, total, begin = hashlib.sha256(), 0, time.monotonic()
    buffer = bytearray(CHUNK)
    with _accept(address, port) as connection:
        connection.settimeout(_IDLE_SECONDS)
        while count := connection.recv_into(buffer):
            digest.update(memoryview(buffer)[:count])
            total += count
    _print_json(bytes=total, sha256=digest.hexdigest(), seconds=time.monotonic() - begin)


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
    _print_json(bytes=total, last_arrival=last)


def _accept(address: str, port: int) -> socket.socket:
    with socket.create_server((address, port)) as server:
        server.settimeout(_CONNECT_SECONDS)
        print("listening", flush=True)
        connection, _ = server.accept()
    return connection


def _print_json(**record: Any) -> None:
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
