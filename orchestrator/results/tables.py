"""Format the rows of a run as tables for the terminal.

A table is plain text in rows and columns; the command line adds colour and boxes. `weights-sync` has a table
of its own, which compares the bytes that left the sender with those that unicast would have sent; any other
scenario shows what its roles reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from orchestrator.traffic import COLUMNS, cells
from orchestrator.traffic import ROLE as TRAFFIC

Row = Mapping[str, Any]

MAX_COLUMNS = 12
MAX_ROWS = 50
MAX_CELL = 200
"""Characters of a cell. More of any of them belongs into a file, and is there."""


@dataclass(frozen=True)
class ResultTable:
    """A heading, columns and cells; `note` stands underneath."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def tables(scenario: str, rows: Sequence[Row]) -> list[ResultTable]:
    """The tables for a run's rows, one per role."""
    if scenario == "weights-sync":
        return _weights_sync(rows)
    # Of generated traffic there is a summary instead, and a row for each flow in the results.
    roles = dict.fromkeys(str(row.get("role", "")) for row in rows if row.get("role") != TRAFFIC)
    return [_generic(role, [row for row in rows if row.get("role") == role]) for role in roles]


def traffic_table(traffic: Sequence[Mapping[str, Any]]) -> ResultTable:
    """The table of a run's traffic, an entry a line."""
    note = "FCT: seconds from the start of a flow until its receiver has confirmed it; by size in run.json"
    return ResultTable("traffic", COLUMNS, tuple(cells(each) for each in traffic), note)


def _weights_sync(rows: Sequence[Row]) -> list[ResultTable]:
    workers = sorted(
        (row for row in rows if row.get("role") == "worker"),
        key=lambda row: (row.get("round", 0), row["node"]),
    )
    trainers = [row for row in rows if row.get("role") == "trainer" and "bytes_sent" in row]
    received = _table(
        "receivers",
        workers,
        {
            "node": "node",
            "round": "round",
            "state": "state",
            "bytes": "bytes",
            "seconds": "seconds",
            "mb_per_s": "MB/s",
            "repair_rounds": "repair",
            "sha256": "sha256",
            "reason": "reason",
        },
    )
    sent = [
        (
            _cell("node", row["node"]),
            _cell("round", row.get("round", 1)),
            _cell("bytes", row["payload_bytes"]),
            _cell("out_degree", row["out_degree"]),
            _cell("bytes", row["bytes_sent"]),
            f"{_ratio(row['bytes_sent'], row['payload_bytes'] * row['out_degree']):.4f}",
            f"{_ratio(row['bytes_sent'], row.get('unicast_bytes', 0)):.4f}",
        )
        for row in trainers
    ]
    heads = (
        "node",
        "round",
        "payload",
        "out-degree",
        "sent",
        "sent / payload × out-degree",
        "sent / unicast",
    )
    return [received, ResultTable("sender", heads, tuple(sent))] if sent else [received]


def _generic(role: str, rows: Sequence[Row]) -> ResultTable:
    keys = [key for key in dict.fromkeys(key for row in rows for key in row) if key != "role"]
    shown = keys[:MAX_COLUMNS]
    ordered = sorted(rows, key=lambda row: (row.get("round") or 0, row.get("node") or 0))
    return _table(role, ordered, {key: key for key in shown})


def _table(title: str, rows: Sequence[Row], heads: Mapping[str, str]) -> ResultTable:
    used = [key for key in heads if any(row.get(key) not in (None, "") for row in rows)]
    cells = tuple(tuple(_cell(key, row.get(key)) for key in used) for row in rows[:MAX_ROWS])
    left = len(rows) - MAX_ROWS
    note = f"and {left} more rows in rows.csv" if left > 0 else ""
    return ResultTable(title, tuple(_shown(heads[key]) for key in used), cells, note)


def _cell(key: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key == "sha256":
        return str(value)[:12]
    if isinstance(value, int) and key not in ("node", "round"):
        return f"{value:,}".replace(",", " ")
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"
    if isinstance(value, Iterable) and not isinstance(value, str):
        return _shown(", ".join(str(item) for item in islice(value, MAX_CELL)))
    return _shown(str(value))


def _shown(text: str) -> str:
    """Return a text as a terminal can show it: on one line, without control characters, and not for ever."""
    cut = text if len(text) <= MAX_CELL else text[: MAX_CELL - 1] + "…"
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in cut)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
