"""Measure rows of the fidelity table on one link."""

from __future__ import annotations

import contextlib
import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from orchestrator.bench.ends import Ends, NotApplicable
from orchestrator.bench.rows import Result, Row, inside_95
from orchestrator.errors import NmError

__all__ = ["measure", "measure_row", "median", "summary"]

_PROGRAM = Path(__file__).with_name("traffic.py")

_SLACK_S = 20.0
"""What a program may take beyond the time of its traffic: to start, to meet the other end, to finish."""


def measure(rows: Iterable[Row], ends: Ends, say: Callable[[str], None]) -> dict[str, Result]:
    """Measure rows one after the other; the link is as it was at the end."""
    results = {}
    for row in rows:
        say(row.title)
        results[row.name] = measure_row(row, ends)
    with contextlib.suppress(NotApplicable):
        ends.shape({})
    return results


def measure_row(row: Row, ends: Ends) -> Result:
    """Measure one row; what keeps it from being measured is in the result."""
    try:
        ends.shape(row.spec)
        seen = _traffic(row, ends)
    except NotApplicable as error:
        return Result(reason=str(error))
    except NmError as error:
        return Result(reason=error.message)
    return row.judge({**seen, "count": row.options.get("count", 0)})


def _traffic(row: Row, ends: Ends) -> dict[str, Any]:
    """Run the programs of both ends at once; return what they saw."""
    options = dict(row.options)
    if row.kind == "numbers":
        options["count"] = -(-options["count"] // 40) * 40
    text, source = json.dumps({**options, "address": ends.receiver_address}), _PROGRAM.read_text("utf-8")
    limit = _SLACK_S + options.get("warm_up", 0.0) + options.get("seconds", 0.0)
    limit += options.get("count", 0) * options.get("interval", 0.0)
    limit += options.get("count", 0) / options.get("rate", 1e9)
    with ThreadPoolExecutor(2) as pool:
        receiver = pool.submit(ends.python, "receiver", source, ["receive", row.kind, text], limit)
        sender = pool.submit(ends.python, "sender", source, ["send", row.kind, text], limit)
        sent = sender.result()
        seen: dict[str, Any] = {**json.loads(sent), **json.loads(receiver.result())}
    return seen


def median(results: Sequence[Result]) -> Result:
    """The result with the median of the first figure that decides; one that failed counts as the worst."""
    measured = [each for each in results if each.values]
    if not measured:
        return results[0]
    names = measured[0].values
    values = {name: statistics.median(each.values[name] for each in measured) for name in names}
    return Result(values, sum(each.ok is True for each in measured) * 2 > len(measured))


def summary(rows: Sequence[Row], results: dict[str, Result]) -> dict[str, Any]:
    """The results as `nm bench fidelity -o json` prints them."""
    found = [_as_json(row, results[row.name]) for row in rows]
    judged = {each["ok"] for each in found}
    verdict = "broken" if False in judged else "kept" if True in judged else "not-measured"
    return {"verdict": verdict, "rows": found}


def _as_json(row: Row, result: Result) -> dict[str, Any]:
    return {
        "name": row.name,
        "title": row.title,
        "requested": dict(row.spec),
        "bar": row.bar,
        "measured": {name: float(f"{value:.6g}") for name, value in result.values.items()},
        "inside_95": inside_95(row, result.values),
        "ok": result.ok,
        "reason": result.reason,
    }
