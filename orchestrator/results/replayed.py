"""Compare the rows of a run with those of its replay.

Rows are matched by node and role, in the order in which each role reported them; between nodes the order of
arrival is chance. What a clock measured is never the same twice, so columns that are times or rates by their
name are told apart from others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["is_time", "row_differences"]

_TIME = re.compile(
    r"(?:^|_)(?:s|ms|us|ns|secs?|seconds?|minutes|times?|latency|rtt|delay|jitter|duration|elapsed|"
    r"started|ended|per_s|rate|throughput|goodput|bps|[kmg]bit|fct)(?:_|$)|^(?:start|late)$",
    re.IGNORECASE,
)

Row = Mapping[str, Any]


def is_time(column: str) -> bool:
    """Whether a column is a time or a rate, by its name: `seconds`, `rtt_ms_median`, `mb_per_s`, `late`."""
    return _TIME.search(column) is not None


def row_differences(before: Sequence[Row], after: Sequence[Row]) -> list[dict[str, Any]]:
    """Return an entry for each role and column that is not the same in all rows.

    Returns:
        `role`, `column`, `time` (whether it is a time or a rate), `rows` (how many differ) and the first
        pair of values as `before` and `after` with its `node`. The column `(rows)` stands for rows that one
        side has and the other has not.
    """
    first, second = _by_role(before), _by_role(after)
    found: dict[tuple[str, str], dict[str, Any]] = {}

    def note(role: str, column: str, node: Any, a: Any, b: Any) -> None:
        entry = found.setdefault(
            (role, column),
            {
                "role": role,
                "column": column,
                "time": is_time(column),
                "rows": 0,
                "node": node,
                "before": a,
                "after": b,
            },
        )
        entry["rows"] += 1

    for who in dict.fromkeys([*first, *second]):
        node, role = who
        mine, others = first.get(who, []), second.get(who, [])
        if len(mine) != len(others):
            note(role, "(rows)", node, len(mine), len(others))
        for a, b in zip(mine, others, strict=False):
            for column in dict.fromkeys([*a, *b]):
                if a.get(column) != b.get(column):
                    note(role, column, node, a.get(column), b.get(column))
    return list(found.values())


def _by_role(rows: Sequence[Row]) -> dict[tuple[Any, str], list[Row]]:
    found: dict[tuple[Any, str], list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row.get("node") or 0, str(row.get("role")))):
        found.setdefault((row.get("node"), str(row.get("role", ""))), []).append(row)
    return found
