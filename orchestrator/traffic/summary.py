"""Compute completion times and loads from the rows of a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator.traffic.entry import ROLE

__all__ = ["COLUMNS", "cells", "summarise"]

CLASSES = ((100_000, "up to 100 KB"), (10_000_000, "up to 10 MB"), (math.inf, "larger"))
"""Classes of flows by size; those of the DCTCP and pFabric papers."""

LATE_S = 0.01
"""A generator has not kept up when a tenth of its flows began later than this after their time. A choice:
small beside the seconds that a traffic pattern takes, and above what timers of a busy machine are late by."""

COLUMNS = (
    "entry", "flows", "incomplete", "bytes", "offered Mbit/s", "achieved Mbit/s",
    "FCT mean s", "p50", "p95", "p99", "generator",
)  # fmt: skip


def summarise(
    planned: Sequence[Mapping[str, Any]], rows: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return a summary of each entry.

    Args:
        planned: What `expected` said of each entry.
        rows: The rows of the run; those of the role `traffic` count.
    """
    of_entry: dict[str, list[Mapping[str, Any]]] = {str(each["entry"]): [] for each in planned}
    for row in rows:
        if row.get("role") == ROLE and row.get("entry") in of_entry:
            of_entry[str(row["entry"])].append(row)
    return [_summary(each, of_entry[str(each["entry"])]) for each in planned]


def cells(summary: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a summary as cells of a table with `COLUMNS`."""
    fct = summary["fct_s"]
    return (
        str(summary["entry"]),
        f"{summary['completed']} of {summary['flows']}",
        str(summary["incomplete"]),
        f"{summary['received_bytes']:,}".replace(",", " "),
        _mbit(summary["offered_bps"]),
        _mbit(summary["achieved_bps"]),
        *(_seconds(fct[key]) for key in ("mean", "p50", "p95", "p99")),
        "kept up" if summary["kept_up"] else f"late: p90 {summary['late_p90_s']:.3f} s",
    )


def _summary(planned: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    done = [row for row in rows if row["state"] == "complete"]
    late = sorted(float(row["late"]) for row in rows if row.get("late") is not None)
    late_p90 = _quantile(late, 0.9) or 0.0
    received = sum(int(row["received"]) for row in rows)
    return {
        **planned,
        "completed": len(done),
        "incomplete": int(planned["flows"]) - len(done),
        "received_bytes": received,
        "achieved_bps": _achieved(planned, rows, received),
        "fct_s": _times([float(row["seconds"]) for row in done]),
        "by_size": {
            name: _times([float(row["seconds"]) for row in done if low < int(row["bytes"]) <= high])
            for (high, name), low in zip(CLASSES, (0, *(high for high, _ in CLASSES)), strict=False)
        },
        "late_p90_s": round(late_p90, 6),
        "kept_up": late_p90 <= LATE_S,
    }


def _achieved(planned: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], received: int) -> float | None:
    """Bits per second that arrived, from the start of the entry to its planned end or to its last byte."""
    ends = [
        float(row["given_up_s"]) if row["seconds"] is None else float(row["start"]) + float(row["seconds"])
        for row in rows
        if row["seconds"] is not None or row.get("given_up_s") is not None
    ]
    if not ends:
        return None
    span = max(max(ends) - float(planned["start_s"]), float(planned["duration_s"]))
    return round(received * 8 / span, 1) if span > 0 else None


def _times(seconds: Sequence[float]) -> dict[str, Any]:
    ordered = sorted(seconds)
    mean = math.fsum(ordered) / len(ordered) if ordered else None
    return {
        "flows": len(ordered),
        "mean": mean,
        **{f"p{share:g}": _quantile(ordered, share / 100) for share in (50, 95, 99)},
    }


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """Return the smallest value that a share of them does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def _mbit(bps: float | None) -> str:
    return "" if bps is None else f"{bps / 1e6:.2f}"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
