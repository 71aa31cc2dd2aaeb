"""Blocks of pcapng files (draft-ietf-opsawg-pcapng) besides those of packets, which nodes make.

They are few: a header, and at the end the statistics. Everything is in little-endian order, as the blocks of
packets.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from orchestrator.capture.filters import LINKTYPE_RAW

__all__ = ["interface_description", "interface_statistics", "packets", "section_header", "whole_blocks"]

_SECTION_HEADER = 0x0A0D0D0A
_INTERFACE_DESCRIPTION = 1
_INTERFACE_STATISTICS = 5
_BYTE_ORDER = 0x1A2B3C4D
_NANOSECONDS = 9

# Options.
_END = 0
_APPLICATION = 4
_NAME, _DESCRIPTION, _RESOLUTION, _FILTER = 2, 3, 9, 11
_RECEIVED, _DROPPED, _ACCEPTED = 4, 5, 6


def section_header(application: str) -> bytes:
    """Return the first block of a file."""
    fixed = struct.pack("<IHHq", _BYTE_ORDER, 1, 0, -1)
    return _block(_SECTION_HEADER, fixed, [(_APPLICATION, application.encode())])


def interface_description(name: str, description: str, snaplen: int, expression: str) -> bytes:
    """Return the block of an interface with raw IP packets and times in nanoseconds."""
    options = [
        (_NAME, name.encode()),
        (_DESCRIPTION, description.encode()),
        (_RESOLUTION, bytes([_NANOSECONDS])),
    ]
    if expression:
        options.append((_FILTER, b"\0" + expression.encode()))  # 0: as libpcap reads it
    return _block(_INTERFACE_DESCRIPTION, struct.pack("<HHI", LINKTYPE_RAW, 0, snaplen), options)


def interface_statistics(number: int, time_ns: int, received: int, accepted: int, missed: int) -> bytes:
    """Return the block that says what an interface has seen, and how much did not fit into the queue."""
    fixed = struct.pack("<III", number, time_ns >> 32, time_ns & 0xFFFFFFFF)
    counts = ((_RECEIVED, received), (_DROPPED, missed), (_ACCEPTED, accepted))
    return _block(_INTERFACE_STATISTICS, fixed, [(code, struct.pack("<Q", count)) for code, count in counts])


def whole_blocks(blocks: memoryview, limit: int) -> int:
    """Return how many bytes the first blocks have that fit into a limit."""
    at = 0
    while at < len(blocks):
        (length,) = struct.unpack_from("<I", blocks, at + 4)
        if at + length > limit:
            break
        at += length
    return at


def packets(blocks: memoryview) -> Iterator[tuple[int, int]]:
    """Return the interface and the length of each packet in blocks of packets."""
    at = 0
    while at < len(blocks):
        (size, number) = struct.unpack_from("<II", blocks, at + 4)
        (length,) = struct.unpack_from("<I", blocks, at + 24)
        yield number, length
        at += size


def _block(kind: int, fixed: bytes, options: Iterable[tuple[int, bytes]]) -> bytes:
    body = fixed + b"".join(_option(code, value) for code, value in [*options, (_END, b"")])
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + b"\0" * (-len(value) % 4)
