"""Recorded traces: files of opportunities to transmit, or of rate, delay and loss that change with time.

Two forms are read:

- packet delivery files of Mahimahi (Netravali et al., "Mahimahi: Accurate Record-and-Replay for HTTP", USENIX
  ATC 2015): a whole number of milliseconds per line, in ascending order, each an opportunity to deliver 1,504
  bytes. The file repeats after its last time.
- CSV with a header: `time_s` and any of `rate`, `delay`, `loss`, which hold from that time on. Plain numbers
  are bits per second, seconds and a share of 1; units as in the topology file are read, too.

What nodes get are the bytes that `dataplane/engine/src/link/trace.rs` describes.
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from orchestrator import units
from orchestrator.errors import Place, UnitInvalid
from orchestrator.impairment import MOST_TRACE_BYTES
from orchestrator.source import Problems, read_stated

__all__ = ["COLUMNS", "Recording", "TraceUse", "file_name", "read_trace", "text_of", "trace_fields"]

MOST_ENTRIES = 1_000_000
"""The most milliseconds with opportunities of a trace; the same in the dataplane."""

MOST_ROWS = 100_000
"""The most rows of a CSV file: 17 minutes at 10 ms."""

LEAST_STEP_US = 100
"""How close rows may be: a busy link wakes up for each."""

MOST_RATE = 10**13
"""Bits per second that a row may have."""

COLUMNS = {"rate": 1, "delay": 2, "loss": 4}
"""The columns of a CSV file, as they are encoded."""

_OPPORTUNITIES, _STEPS = 1, 2
_OPPORTUNITY_BITS = 1_504 * 8


@dataclass(frozen=True, slots=True)
class TraceUse:
    """A trace as a link states it: its file, where that is stated, and how it is played."""

    file: str
    place: Place
    loop: bool | None = None
    scale: float = 1.0
    shift_us: int = 0
    column: str | None = None


@dataclass(frozen=True, slots=True)
class Recording:
    """A trace as recorded.

    Attributes:
        data: Encoded for the dataplane.
        sets: Which of `rate`, `delay` and `loss` it has.
        end_us: Its last time.
        mean_bps: The mean of its rates, if it has any.
        repeats: Whether it repeats unless stated otherwise.
    """

    data: bytes = field(repr=False)
    sets: tuple[str, ...]
    end_us: int
    mean_bps: float | None
    repeats: bool


class _Wrong(Exception):
    """A file is no trace: what is wrong, and at which line; 0 for the file as a whole."""

    def __init__(self, id: str, line: int, message: str, expected: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.id, self.line, self.expected, self.hint = id, line, expected, hint


def read_trace(use: TraceUse, directory: Path, problems: Problems) -> Recording | None:
    """Read the file of a trace; None after noting what is wrong with it.

    Args:
        use: The trace.
        directory: What its name is relative to.
        problems: Takes what is wrong.
    """
    path = directory / use.file
    expected = "a packet delivery file of Mahimahi, or CSV with a header"
    text = read_stated(path, use.file, use.place, problems, what="trace", expected=expected)
    if text is None:
        return None
    try:
        recording = _read(text, path.suffix.lower(), use.column)
        _check(recording, use)
    except _Wrong as wrong:
        place = Place(str(path), wrong.line, 1) if wrong.line else use.place
        problems.add(
            f"the trace `{path.name}`: {wrong}, expected {wrong.expected}",
            wrong.id,
            place,
            expected=wrong.expected,
            hint=wrong.hint,
        )
        return None
    return recording


def trace_fields(use: TraceUse, recording: Recording) -> Mapping[str, Any]:
    """Return the fields of `LinkSpec` that a trace states."""
    mean = recording.mean_bps
    return {
        "trace": hashlib.sha256(recording.data).hexdigest(),
        "trace_file": Path(use.file).name[-200:],
        "trace_sets": ",".join(recording.sets),
        "trace_rate_bps": None if mean is None else max(1, round(mean * use.scale)),
        "trace_loop": recording.repeats if use.loop is None else use.loop,
        "trace_scale": use.scale,
        "trace_shift_us": use.shift_us,
        "trace_data": recording.data,
    }


def file_name(digest: str, data: bytes) -> str:
    """Return the name of the file that a resolved topology states for a trace."""
    return f"trace-{digest[:16]}.{'mahi' if data[0] == _OPPORTUNITIES else 'csv'}"


def text_of(data: bytes) -> str:
    """Return the text of a trace: reading it gives the same trace again."""
    if data[0] == _OPPORTUNITIES:
        at, lines = 0, []
        numbers = _numbers(data[1:])
        for gap in numbers:
            at += gap
            lines += [f"{at}\n"] * next(numbers)
        return "".join(lines)
    names = [name for name, bit in COLUMNS.items() if data[1] & bit]
    at, lines = 0, [",".join(["time_s", *names]) + "\n"]
    numbers = _numbers(data[2:])
    write: Mapping[str, Callable[[int], str]] = {
        "rate": str,
        "delay": lambda us: f"{us} us",
        "loss": lambda share: f"{share / 1e9:.9f}",
    }
    for gap in numbers:
        at += gap
        cells = [f"{at // 10**6}.{at % 10**6:06}", *(write[name](next(numbers)) for name in names)]
        lines.append(",".join(cells) + "\n")
    return "".join(lines)


def _check(recording: Recording, use: TraceUse) -> None:
    loop = recording.repeats if use.loop is None else use.loop
    if loop and recording.end_us == 0:
        raise _Wrong(
            "trace-end",
            0,
            "its last time is 0, so it cannot repeat",
            "a last time above 0",
            "write `loop: false`",
        )
    if not loop and use.shift_us > recording.end_us:
        raise _Wrong(
            "trace-shift",
            0,
            f"it ends after {recording.end_us / 1e6:g} s, before its start at {use.shift_us / 1e6:g} s",
            "a shift within the trace, or `loop: true`",
        )
    if len(recording.data) > MOST_TRACE_BYTES:
        raise _Wrong(
            "trace-size",
            0,
            f"it has {len(recording.data):,} bytes when encoded",
            f"at most {MOST_TRACE_BYTES:,}",
            "cut it, or take fewer rows",
        )


def _read(text: str, suffix: str, column: str | None) -> Recording:
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
    if not lines:
        raise _Wrong("trace-empty", 0, "it is empty", "at least one line")
    if suffix == ".csv" or "," in lines[0][1] or "time_s" in lines[0][1]:
        return _read_rows(lines, column)
    if column is not None:
        raise _Wrong("trace-column", 0, f"`column` is `{column}`, but it has no columns", "a CSV file")
    return _read_opportunities(lines)


# Packet delivery files.


def _read_opportunities(lines: list[tuple[int, str]]) -> Recording:
    data = bytearray([_OPPORTUNITIES])
    at, before, count, entries = 0, 0, 0, 0
    for number, line in lines:
        if not (line.isascii() and line.isdecimal() and len(line) <= 9):
            raise _Wrong(
                "trace-value", number, f"`{line[:40]}`", "a whole number of milliseconds, not below 0"
            )
        time = int(line)
        if time < at:
            raise _Wrong("trace-order", number, f"{time} ms comes after {at} ms", "times in ascending order")
        if time > at and count:
            _put(data, at - before, count)
            before, count, entries = at, 0, entries + 1
        at, count = time, count + 1
    _put(data, at - before, count)
    if entries >= MOST_ENTRIES:
        raise _Wrong(
            "trace-size", 0, f"it has more than {MOST_ENTRIES:,} different times", f"at most {MOST_ENTRIES:,}"
        )
    if at == 0:
        raise _Wrong("trace-end", lines[-1][0], "its last time is 0, so it has no end", "a last time above 0")
    mean = len(lines) * _OPPORTUNITY_BITS * 1_000 / at
    return Recording(bytes(data), ("rate",), at * 1_000, mean, repeats=True)


# CSV.


def _read_rows(lines: list[tuple[int, str]], column: str | None) -> Recording:
    if len(lines) - 1 > MOST_ROWS:
        raise _Wrong("trace-size", 0, f"it has {len(lines) - 1:,} rows", f"at most {MOST_ROWS:,} rows")
    numbers = [number for number, _ in lines]
    cells = [_cells(line, number) for number, line in lines]
    names = _columns(cells[0], numbers[0], column)
    if len(cells) == 1:
        raise _Wrong("trace-empty", 0, "it has a header and no rows", "at least one row")
    sets = tuple(name for name in COLUMNS if name in names)
    data = bytearray([_STEPS, sum(COLUMNS[name] for name in sets)])
    rows: list[tuple[int, int]] = []  # time, rate
    for number, row in zip(numbers[1:], cells[1:], strict=True):
        if len(row) != len(cells[0]):
            raise _Wrong("trace-value", number, f"it has {len(row)} columns", f"{len(cells[0])} columns")
        read = {name: _cell(name, row[index], number) for name, index in names.items()}
        time, before = read["time_s"], rows[-1][0] if rows else None
        if before is not None and time < before + LEAST_STEP_US:
            raise _Wrong(
                "trace-order",
                number,
                f"{time / 1e6:g} s comes after {before / 1e6:g} s",
                f"times in ascending order, at least {LEAST_STEP_US} us apart",
            )
        _put(data, time - (before or 0), *(read[name] for name in sets))
        rows.append((time, read.get("rate", 0)))
    mean = _mean(rows) if "rate" in sets else None
    if mean is not None and not any(rate for _, rate in rows):
        raise _Wrong("trace-value", 0, "its rate is always 0", "a rate above 0", "take the link down instead")
    return Recording(bytes(data), sets, rows[-1][0], mean, repeats=False)


def _cells(line: str, number: int) -> list[str]:
    """Return the cells of one line; a quote that is open at its end would join it with the next."""
    try:
        return [cell.strip() for cell in next(csv.reader([line], strict=True))]
    except csv.Error as error:
        raise _Wrong(
            "trace-value", number, f"it is not CSV ({error})", "cells with commas between them, quotes closed"
        ) from None


def _columns(header: list[str], line: int, column: str | None) -> dict[str, int]:
    """Return the places of the columns that are used."""
    found: dict[str, int] = {}
    for index, name in enumerate(header):
        meant = "rate" if name == column else name
        if name == "rate" and column not in (None, "rate"):
            continue
        if meant in found:
            raise _Wrong("trace-column", line, f"the column `{name}` is there twice", "each column once")
        if meant == "time_s" or meant in COLUMNS:
            found[meant] = index
        elif column is None:
            raise _Wrong(
                "trace-column",
                line,
                f"the column `{name[:40]}` is unknown",
                f"`time_s` and any of {', '.join(f'`{each}`' for each in COLUMNS)}",
                f"if it holds the rate, state `column: {name[:40]}`",
            )
    if column is not None and "rate" not in found:
        known = ", ".join(f"`{name}`" for name in header)
        raise _Wrong("trace-column", line, f"it has no column `{column}`", f"one of {known}")
    if "time_s" not in found or len(found) == 1:
        raise _Wrong(
            "trace-column", line, "its header lacks a column", "`time_s` and any of `rate`, `delay`, `loss`"
        )
    return found


_EXPECTED = {
    "time_s": "a number of seconds, not below 0",
    "rate": "bits per second, or a rate such as `12 Mbit`",
    "delay": "a number of seconds, or a delay such as `20 ms`",
    "loss": "a number from 0 to 1, or a share such as `1 %`",
}


def _cell(name: str, text: str, line: int) -> int:
    """Return a cell as it is encoded: microseconds, bits per second, or a share in 10^-9."""
    factor, most = {
        "time_s": (1e6, 10**15),
        "rate": (1.0, MOST_RATE),
        "delay": (1e6, 10**12),
        "loss": (1e9, 10**9),
    }[name]
    try:
        value = _plain(text)
        if value is None:
            value = _with_unit(name, text) / factor
        value = value * factor
    except (UnitInvalid, ValueError):
        value = math.nan
    if not 0 <= value <= most:  # false for a NaN
        raise _Wrong("trace-value", line, f"{name} is `{text[:40]}`", _EXPECTED[name])
    return round(value)


def _plain(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _with_unit(name: str, text: str) -> float:
    match name:
        case "rate":
            return units.parse_rate(text).bps
        case "delay":
            return units.parse_duration(text).us
        case "loss":
            return units.parse_fraction(text) * 1e9
    raise ValueError(name)


def _mean(rows: list[tuple[int, int]]) -> float:
    """Return the mean rate up to the last time; the first row holds from the beginning."""
    end = rows[-1][0]
    if end == 0:
        return rows[0][1]
    bits = rows[0][0] * rows[0][1] + sum((b[0] - a[0]) * a[1] for a, b in pairwise(rows))
    return max(bits / end, 1.0)


# LEB128.


def _put(data: bytearray, *numbers: int) -> None:
    for number in numbers:
        while number > 0x7F:
            data.append(number & 0x7F | 0x80)
            number >>= 7
        data.append(number)


def _numbers(data: bytes) -> Iterator[int]:
    value = shift = 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield value
            value = shift = 0
