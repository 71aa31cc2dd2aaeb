"""Read the last lines of log files, and follow them as they grow."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

POLL_S = 0.1
"""A log that is followed is looked at this often; a person does not notice, and a processor neither."""

_BLOCK = 64 * 1024

MOST_LINE = 64 * 1024
"""Bytes of a line; a longer one is given in pieces."""

_TAIL = 1024 * 1024
_TAIL_LINE = 1024
_MOST_TAIL = 64 * 1024 * 1024


def last_lines(path: Path, count: int) -> list[str]:
    """The last `count` lines of a file, without reading the rest; empty if it is not there.

    At most 1 MiB is read, or 1 KiB for each line if that is more, and never more than 64 MiB.
    """
    most = min(max(_TAIL, _TAIL_LINE * count), _MOST_TAIL)
    chunks: list[bytes] = []
    ends = had = 0
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            while size and ends <= count and had < most:
                step = min(_BLOCK, size, most - had)
                size -= step
                file.seek(size)
                chunks.append(file.read(step))
                ends += chunks[-1].count(b"\n")
                had += step
    except OSError:
        return []
    found = [piece for line in b"".join(reversed(chunks)).splitlines() for piece in _pieces(line)]
    return [piece.decode(errors="replace") for piece in found[-count:]] if count else []


async def lines(path: Path, *, follow: bool, tail: int | None, start: int = 0) -> AsyncIterator[str]:
    """The lines of a file; with `follow`, those to come as well, until cancelled.

    Args:
        path: The file; one that does not exist yet is waited for if `follow`, and empty if not.
        follow: Whether to go on at the end.
        tail: How many of the lines that are already there to give; None for all.
        start: The byte to begin at, without `tail`.
    """
    position = start
    if tail is not None:
        for line in last_lines(path, tail):
            yield line
        position = _size(path)
    rest = b""
    while True:
        chunk = _read_from(path, position)
        position += len(chunk)
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) > MOST_LINE:
            *begun, rest = _pieces(rest)
            whole += begun
        for piece in (piece for line_bytes in whole for piece in _pieces(line_bytes)):
            yield piece.decode(errors="replace")
        if chunk:
            await asyncio.sleep(0)  # a large file must not keep others from running
            continue
        if not follow:
            break
        await asyncio.sleep(POLL_S)
        if _size(path) < position:
            position, rest = 0, b""  # truncated: begin again, as `tail -F` does
    if rest:
        yield rest.decode(errors="replace")


def _pieces(line: bytes) -> list[bytes]:
    return [line[at : at + MOST_LINE] for at in range(0, len(line), MOST_LINE)] or [b""]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _read_from(path: Path, position: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(position)
            return file.read(_BLOCK)
    except OSError:
        return b""
