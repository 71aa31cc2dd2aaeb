"""The connection between an agent and the process of a role: messages as lists of plain values.

A message has its length in front, four bytes, and is msgpack behind it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import msgpack

__all__ = ["MAX_MESSAGE", "ChannelError", "Decoder", "encode"]

MAX_MESSAGE = 8 * 1024 * 1024
"""Bytes of one message: more than a row, a value or the start of a role has."""

_LENGTH = struct.Struct("<I")


class ChannelError(Exception):
    """What came is no message."""


def encode(kind: str, *values: Any) -> bytes:
    """The bytes of a message."""
    body: bytes = msgpack.packb([kind, *values])
    return _LENGTH.pack(len(body)) + body


class Decoder:
    """Cuts received bytes into messages."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[str, list[Any]]]:
        """Take bytes, and yield the messages that are complete: kind and values.

        Raises:
            ChannelError: They are no messages.
        """
        self._bytes += data
        while len(self._bytes) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._bytes)
            if length > MAX_MESSAGE:
                raise ChannelError(f"a message of {length} bytes")
            end = _LENGTH.size + length
            if len(self._bytes) < end:
                return
            body = bytes(self._bytes[_LENGTH.size : end])
            del self._bytes[:end]
            yield _message(body)


def _message(body: bytes) -> tuple[str, list[Any]]:
    try:
        found = msgpack.unpackb(body, strict_map_key=False)
    except Exception as error:  # msgpack's errors have no common class
        raise ChannelError(f"no message: {error}") from error
    if not isinstance(found, list) or not found or not isinstance(found[0], str):
        raise ChannelError("a message without a kind")
    return found[0], found[1:]
