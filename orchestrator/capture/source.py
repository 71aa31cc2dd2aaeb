"""The connection to a process that carries a node: the request, its answer, and the frames that follow.

A frame is its length as 4 bytes, a byte that says what it is, and its content: `B` blocks of packets, `S`
counts of the node's interfaces as JSON.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from orchestrator.capture.filters import Program
from orchestrator.capture.interfaces import Interface

__all__ = ["SNAPLEN", "Source"]

SNAPLEN = 262_144
"""Bytes of a packet that are kept unless something else is asked for: more than an IP packet has."""

ANSWER_S = 10.0
"""How long a process may take to begin a capture: a container's needs a program to be started in it."""

READ_S = 60
"""How long a process waits for a capture that reads nothing, before it closes the connection: `WRITE_TIME` of
`dataplane/driver/src/capture/server.rs`."""

_FRAME = struct.Struct("<IB")
_FIRST_BUFFER = 1 << 20
_LARGEST_FRAME = 64 << 20
BLOCKS, STATISTICS = ord("B"), ord("S")


class Source:
    """One node's part of a capture.

    Args:
        node: The node.
        connection: A connected stream to its process; closed by `close`.
        trouble: Says why the stream ended, where its transport knows; empty if it does not.
        release: Called by `close` for whatever else the stream needs.
    """

    def __init__(
        self,
        node: int,
        connection: socket.socket,
        *,
        trouble: Callable[[], str] = lambda: "",
        release: Callable[[], None] = lambda: None,
    ) -> None:
        self.node = node
        self._connection = connection
        self._trouble = trouble
        self._release = release
        self._buffer = bytearray(_FIRST_BUFFER)
        self._filled = 0

    def fileno(self) -> int:
        """Return the descriptor, for waiting."""
        return self._connection.fileno()

    def begin(
        self, interfaces: Sequence[tuple[int, Interface]], program: Program, snaplen: int, epoch_ns: int
    ) -> str:
        """Ask for packets; return why the node refuses, or an empty text.

        Args:
            interfaces: The file's interfaces with their numbers; those of other nodes are left out.
            program: Which packets.
            snaplen: Bytes of a packet that are kept.
            epoch_ns: What is added to the monotonic clock to get the time since 1970.
        """
        wanted = [each.as_json(number) for number, each in interfaces if each.node == self.node]
        request = {
            "node": self.node,
            "interfaces": wanted,
            "filter": program.as_json(),
            "snaplen": snaplen,
            "epoch_ns": epoch_ns,
        }
        self._connection.settimeout(ANSWER_S)
        try:
            self._connection.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(self._answer())
        except TimeoutError:
            return f"its process did not answer within {ANSWER_S:g} s"
        except (OSError, ValueError) as error:
            return self._trouble() or f"its process does not answer: {error}"
        finally:
            with suppress(OSError):
                self._connection.settimeout(None)
        return str(answer.get("error", ""))

    def _answer(self) -> bytes:
        """Read the line of the answer byte by byte: frames may follow it at once."""
        line = b""
        while not line.endswith(b"\n"):
            byte = self._connection.recv(1)
            if not byte:
                raise ValueError("it has closed the connection")
            line += byte
        return line

    def finish(self) -> None:
        """Ask for the end: what waits still comes, then the last counts, then the end of the stream."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)

    def receive(self) -> bool:
        """Read what is there; False at the end of the stream."""
        try:
            with memoryview(self._buffer) as view:
                count = self._connection.recv_into(view[self._filled :])
        except OSError:
            return False
        self._filled += count
        return count > 0

    def broken(self) -> str:
        """Say why a stream that has ended lacks the end of a frame; empty if it does not."""
        if not self._filled:
            return ""
        return (
            f"node {self.node} ended its part of the capture within a frame, so its last packets and counts "
            f"are missing: its process was killed, or this one read nothing for {READ_S} s"
        )

    def frames(self) -> Iterator[tuple[int, memoryview]]:
        """Return the whole frames that were read; each is valid until the next one is asked for."""
        at = 0
        with memoryview(self._buffer) as view:
            while self._filled - at >= _FRAME.size:
                length, kind = _FRAME.unpack_from(view, at)
                start = at + _FRAME.size
                if self._filled - start < length:
                    break
                with view[start : start + length] as content:
                    yield kind, content
                at = start + length
            rest = bytes(view[at : self._filled])
        self._keep(rest)

    def _keep(self, rest: bytes) -> None:
        needed = _FRAME.size
        if len(rest) >= _FRAME.size:
            needed += _FRAME.unpack_from(rest)[0]
        if needed > len(self._buffer):
            if needed > _LARGEST_FRAME:
                raise ValueError(f"node {self.node} sent a frame of {needed} bytes")
            self._buffer = bytearray(needed)
        self._buffer[: len(rest)] = rest
        self._filled = len(rest)

    def close(self) -> None:
        """Close the connection, which ends the capture at the node."""
        self._connection.close()
        self._release()


def counts(content: memoryview) -> list[dict[str, Any]]:
    """Read the counts in a frame."""
    read: list[dict[str, Any]] = json.loads(bytes(content))
    return read
