"""The table of a sweep: for each combination and numeric column the median of its runs and its interval."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.results.statistics import LEAST_FOR_INTERVAL, median_interval, numeric_columns
from orchestrator.results.tables import MAX_COLUMNS, ResultTable

__all__ = ["Entry", "default_metric", "metrics", "shown_table", "sweep_table"]

Entry = Mapping[str, Any]
"""A run of a sweep as in `sweep.json`: as `nm run -o json`, with `params`, `repetition` and `combination`."""

_FIRST = ("mb_per_s", "seconds", "rtt_ms_median")
"""Columns that are plotted before others, if they are there."""


def sweep_table(entries: Sequence[Entry], seed: int) -> list[dict[str, Any]]:
    """Return an entry for each combination, role and numeric column.

    Args:
        entries: The runs; those that did not come to their end count for nothing.
        seed: The sweep's, which drives the resampling.
    """
    found: list[dict[str, Any]] = []
    groups: dict[int, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry["combination"], []).append(entry)
    for number in sorted(groups):
        values: dict[tuple[str, str], list[float]] = {}
        for entry in groups[number]:
            if entry["verdict"] == "error":
                continue
            for column, value in numeric_columns(entry.get("rows", ())).items():
                values.setdefault(column, []).append(value)
        for (role, name), observed in values.items():
            interval = median_interval(observed, _derived(seed, number, role, name))
            found.append(
                {
                    "combination": number,
                    "params": dict(groups[number][0]["params"]),
                    "role": role,
                    "column": name,
                    "n": interval.n,
                    "median": interval.median,
                    "low": interval.low,
                    "high": interval.high,
                }
            )
    return found


def metrics(table: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The roles and columns of a table, those that differ within the sweep before those that never do."""
    seen: dict[tuple[str, str], set[float | None]] = {}
    for line in table:
        values = seen.setdefault((line["role"], line["column"]), set())
        values |= {line["median"], line["low"], line["high"]}
    return sorted(seen, key=lambda column: len(seen[column] - {None}) < 2)


def default_metric(table: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
    """The column that is plotted unless another is named; None if there is no numeric one."""
    found = metrics(table)
    for name in _FIRST:
        for role, column in found:
            if column == name:
                return role, column
    return found[0] if found else None


def shown_table(document: Mapping[str, Any]) -> ResultTable:
    """Return a sweep as a table for people: a line for each combination, a column for each metric."""
    axes = [axis["key"] for axis in document.get("axes", [])]
    table, runs = document.get("table", []), document.get("runs", [])
    chosen = _varying(table)[: max(1, MAX_COLUMNS - len(axes) - 2)]
    roles = {role for role, _ in chosen}
    heads = [column if len(roles) == 1 else f"{role}.{column}" for role, column in chosen]
    cells = {(line["combination"], line["role"], line["column"]): _cell(line) for line in table}
    lines = []
    for number in sorted({run["combination"] for run in runs}):
        own = [run for run in runs if run["combination"] == number]
        passed = sum(1 for run in own if run["verdict"] == "pass")
        values = [str(own[0]["params"].get(key, "")) for key in axes]
        shown = [cells.get((number, role, column), "") for role, column in chosen]
        lines.append((*values, str(len(own)), str(passed), *shown))
    left = len(_varying(table)) - len(chosen)
    note = "medians of runs"
    if any(line["low"] is not None for line in table):
        note += ", in brackets their 95 % interval"
    if any(line["low"] is None for line in table):
        note += f"; fewer than {LEAST_FOR_INTERVAL} runs have no interval"
    note += f"; and {left} more columns in sweep.json" if left > 0 else ""
    return ResultTable("", (*axes, "runs", "pass", *heads), tuple(lines), note if table else "")


def _varying(table: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The metrics that differ anywhere in the sweep; all of them if none does."""
    seen: dict[tuple[str, str], set[float | None]] = {}
    for line in table:
        values = seen.setdefault((line["role"], line["column"]), set())
        values |= {line["median"], line["low"], line["high"]}
    varying = [column for column, values in seen.items() if len(values - {None}) > 1]
    return varying or list(seen)


def _cell(line: Mapping[str, Any]) -> str:
    if line["low"] is None:
        return _number(line["median"])
    return f"{_number(line['median'])} [{_number(line['low'])}, {_number(line['high'])}]"


def _number(value: float) -> str:
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}".replace(",", " ")
    return f"{value:.4g}" if abs(value) < 10_000 else f"{value:.0f}"


def _derived(seed: int, *names: object) -> int:
    digest = hashlib.sha256("/".join(map(str, (seed, *names))).encode()).digest()
    return int.from_bytes(digest[:8], "big")
