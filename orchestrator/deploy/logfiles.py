"""Read the last lines of log files, and follow them as they grow."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

POLL_S = 0.1
"""A log that is followed is looked at this often; a person does not notice, and a processor neither."""

_BLOCK = 64 * 1024


def last_lines(path: Path, count: int) -> list[str]:
    """The last `count` lines of a file, without reading the rest; empty if it is not there."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            data = b""
            while size and data.count(b"\n") <= count:
                step = min(_BLOCK, size)
                size -= step
                file.seek(size)
                data = file.read(step) + data
    except OSError:
        return []
    return [line.decode(errors="replace") for line in data.splitlines()[-count:]] if count else []


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
        for line_bytes in whole:
            yield line_bytes.decode(errors="replace")
        if chunk:
            continue
        if not follow:
            break
        await asyncio.sleep(POLL_S)
        if _size(path) < position:
            position, rest = 0, b""  # truncated: begin again, as `tail -F` does
    if rest:
        yield rest.decode(errors="replace")


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
