"""Flows over sockets: TCP connections that push or pull bytes, and paced UDP datagrams.

A connection begins with what is asked for: `P` with the number of a flow takes bytes until the end of the
stream and says how many they were; `G` with a number sends so many bytes; `Q` with the number of a flow says
what has arrived of it.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from orchestrator.node.context import RoleError
from orchestrator.traffic import Flow, TrafficEntry

__all__ = ["Listener", "Progress", "Sent", "datagrams", "delivered", "pull", "push"]

_REQUEST = struct.Struct("!cQ")
_COUNT = struct.Struct("!QQ")
_DATAGRAM = struct.Struct("!QQ")
_CHUNK = bytes(128 * 1024)
_BACKLOG = 1024
_TICK_S = 0.001
"""The time between two bursts of a flow with a pace: what timers do reliably."""
_LAST_S = 0.05
"""How long the last bytes of a flow with a pace may take beyond its time."""
_SETTLE_S = 0.2
"""How long no datagram may arrive before those that are missing are lost."""
_SETTLE_MOST_S = 10.0
_MOST_DATAGRAMS = 1 << 30
"""Datagrams of one flow: an hour at 3 Gbit/s with 1460 bytes each; their bits take 128 MB."""

_flows = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of a flow: bytes that arrived, how long that took, and how late a datagram was sent."""

    received: int
    seconds: float
    late_s: float = 0.0


class Progress:
    """A flow under way: its number at its receiver, and the bytes that a pulled flow has brought."""

    __slots__ = ("bytes", "number")

    def __init__(self) -> None:
        self.number = next(_flows)
        self.bytes = 0

    def count(self, size: int) -> None:
        """Count bytes that arrived."""
        self.bytes += size


class Listener:
    """Takes the flows of an entry in the node that is connected to."""

    def __init__(self, entry: TrafficEntry, address: str) -> None:
        self._entry = entry
        self._address = address
        self._arrived: dict[tuple[str, int], _Arrived] = {}
        self._connections: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Listener:
        port = self._entry.port
        try:
            self._server = await asyncio.start_server(
                self._serve, self._address, port, backlog=_BACKLOG, limit=len(_CHUNK)
            )
        except OSError as error:
            raise _port_in_use(self._entry, error) from error
        self._datagrams: asyncio.DatagramTransport | None = None
        if self._entry.transport == "udp":
            loop = asyncio.get_running_loop()
            try:
                self._datagrams, _ = await loop.create_datagram_endpoint(
                    lambda: _Counter(self._arrived), local_addr=(self._address, port)
                )
            except OSError as error:
                self._server.close()
                raise _port_in_use(self._entry, error) from error
            sock = self._datagrams.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        if self._datagrams is not None:
            self._datagrams.close()
        for task in list(self._connections):
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
        peer = str(writer.get_extra_info("peername")[0])
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._answer(reader, writer, peer)
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: str) -> None:
        what, number = _REQUEST.unpack(await reader.readexactly(_REQUEST.size))
        if what == b"P":
            arrived = self._arrived[peer, number] = _Arrived(time.monotonic())
            await _read_all(reader, arrived.count)
            writer.write(_COUNT.pack(arrived.bytes, 0))
        elif what == b"G":
            await _write(writer, number)
        else:
            arrived = self._arrived.get((peer, number), _Arrived(0.0))
            writer.write(_COUNT.pack(arrived.bytes, round((arrived.last - arrived.first) * 1e6)))
        await writer.drain()


class _Arrived:
    """What arrived of a flow of datagrams: bytes, each datagram once, and when the first and last came."""

    __slots__ = ("_seen", "bytes", "first", "last")

    def __init__(self, now: float) -> None:
        self.bytes = 0
        self.first = self.last = now
        self._seen = bytearray()  # a bit for each datagram

    def count(self, size: int) -> None:
        """Count bytes of a connection."""
        self.bytes += size

    def add(self, index: int, size: int, now: float) -> None:
        """Count a datagram, unless it is a duplicate of one that was counted."""
        place, bit = index >> 3, 1 << (index & 7)
        if place >= len(self._seen):
            self._seen.extend(bytes(max(place + 1 - len(self._seen), len(self._seen), 64)))
        if self._seen[place] & bit:
            return
        self._seen[place] |= bit
        self.bytes += size
        self.last = now


class _Counter(asyncio.DatagramProtocol):
    """Counts the datagrams of each flow."""

    def __init__(self, arrived: dict[tuple[str, int], _Arrived]) -> None:
        self._arrived = arrived

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        if len(data) < _DATAGRAM.size:
            return
        number, index = _DATAGRAM.unpack_from(data)
        if index >= _MOST_DATAGRAMS:
            return  # no generator sends it
        now = time.monotonic()
        key = (str(addr[0]), number)
        found = self._arrived.get(key)
        if found is None:
            found = self._arrived[key] = _Arrived(now)
        found.add(index, len(data), now)


async def push(address: str, port: int, flow: Flow, since: float, progress: Progress) -> Sent:
    """Send a flow over a connection of its own; a flow with a pace ends when its time is over."""
    reader, writer = await asyncio.open_connection(address, port)
    try:
        writer.write(_REQUEST.pack(b"P", progress.number))
        if flow.rate_bps:
            await _write_paced(writer, flow)
        else:
            await _write(writer, flow.bytes)
        writer.write_eof()
        received, _ = _COUNT.unpack(await _exactly(reader, _COUNT.size))
        return Sent(received, time.monotonic() - since)
    finally:
        writer.close()


async def pull(address: str, port: int, flow: Flow, since: float, progress: Progress) -> Sent:
    """Ask for a flow over a connection of its own."""
    reader, writer = await asyncio.open_connection(address, port, limit=len(_CHUNK))
    try:
        writer.write(_REQUEST.pack(b"G", flow.bytes))
        await _read_all(reader, progress.count)
        return Sent(progress.bytes, time.monotonic() - since)
    finally:
        writer.close()


async def datagrams(address: str, entry: TrafficEntry, flow: Flow, since: float, progress: Progress) -> Sent:
    """Send a flow as datagrams with a pace, then ask what arrived."""
    number = progress.number
    loop = asyncio.get_running_loop()
    late = 0.0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect((address, entry.port))
        sent = index = 0
        while sent < flow.bytes:
            due = since + sent * 8 / flow.rate_bps
            now = time.monotonic()
            if due > now:
                await asyncio.sleep(max(_TICK_S, due - now))
                continue
            size = max(_DATAGRAM.size, min(entry.packet, flow.bytes - sent))
            late = max(late, now - due)
            with suppress(ConnectionRefusedError):  # the answer to an earlier datagram
                await loop.sock_sendall(sock, _DATAGRAM.pack(number, index) + _CHUNK[: size - _DATAGRAM.size])
            sent, index = sent + size, index + 1
    received, span_us = await _settled(address, entry.port, number)
    return Sent(received, span_us / 1e6, late)


async def delivered(address: str, port: int, number: int) -> tuple[int, int]:
    """Ask a receiver for the bytes of a flow that have arrived, and the microseconds they took.

    The time is that between the first and the last datagram; it is 0 for a connection.

    Raises:
        OSError: The receiver cannot be reached.
    """
    reader, writer = await asyncio.open_connection(address, port)
    try:
        writer.write(_REQUEST.pack(b"Q", number))
        received, span_us = _COUNT.unpack(await _exactly(reader, _COUNT.size))
        return received, span_us
    finally:
        writer.close()


async def _settled(address: str, port: int, number: int) -> tuple[int, int]:
    """Ask what arrived of a flow until that does not change any more."""
    deadline = time.monotonic() + _SETTLE_MOST_S
    before: tuple[int, int] | None = None
    while True:
        received, span_us = await delivered(address, port, number)
        if before == (received, span_us) or time.monotonic() > deadline:
            return received, span_us
        before = (received, span_us)
        await asyncio.sleep(_SETTLE_S)


async def _write(writer: asyncio.StreamWriter, size: int) -> None:
    left = size
    while left > 0:
        chunk = _CHUNK[:left] if left < len(_CHUNK) else _CHUNK
        writer.write(chunk)
        left -= len(chunk)
        await writer.drain()


async def _write_paced(writer: asyncio.StreamWriter, flow: Flow) -> None:
    began = time.monotonic()
    seconds = flow.bytes * 8 / flow.rate_bps
    sent = 0
    while sent < flow.bytes and (passed := time.monotonic() - began) < seconds + _LAST_S:
        allowed = min(flow.bytes, int(passed * flow.rate_bps / 8) + 1)
        if allowed > sent:
            size = min(allowed - sent, len(_CHUNK))
            writer.write(_CHUNK[:size])
            sent += size
            await writer.drain()
        if sent >= allowed:
            await asyncio.sleep(max(_TICK_S, min(0.01, 1460 * 8 / flow.rate_bps)))


async def _read_all(reader: asyncio.StreamReader, count: Callable[[int], None]) -> None:
    while chunk := await reader.read(len(_CHUNK)):
        count(len(chunk))


async def _exactly(reader: asyncio.StreamReader, size: int) -> bytes:
    try:
        return await reader.readexactly(size)
    except asyncio.IncompleteReadError:
        raise ConnectionResetError(errno.ECONNRESET, "the receiver closed the connection") from None


def _port_in_use(entry: TrafficEntry, error: OSError) -> RoleError:
    return RoleError(
        f"the traffic `{entry.name}` cannot listen on port {entry.port}: {error.strerror or error}",
        id="run.traffic-port",
        found=str(entry.port),
        hint="`port` in the entry names another one",
    )
