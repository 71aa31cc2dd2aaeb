"""Run the fidelity benchmark: every row on every kind of link, in rounds."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks import machine, sysctls
from benchmarks.errors import BenchmarkError
from benchmarks.fidelity import references
from benchmarks.program import Notify
from orchestrator.bench import ROWS, Ends, Result, Row, lab_ends
from orchestrator.bench.rows import inside_95
from orchestrator.bench.run import measure, median
from orchestrator.errors import NmError

__all__ = ["LINKS", "Outcome", "Settings", "run"]

LINKS: Mapping[str, Callable[[], AbstractContextManager[Ends]]] = {
    "native": lambda: lab_ends("native", name=f"nmbench-{os.getpid()}-1"),
    "docker": lambda: lab_ends("docker", name=f"nmbench-{os.getpid()}-2"),
    "tc tbf": references.kernel,
    "Mininet TCLink": references.mininet_link,
}
"""The kinds of links; the first two are judged, the others are references."""

JUDGED = ("native", "docker")


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a run; empty sets mean all rows and all links."""

    rounds: int = 3
    only: frozenset[str] = frozenset()
    links: frozenset[str] = frozenset()
    quick: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a run; `record` is what goes into the file."""

    record: dict[str, Any]

    def exit_code(self, *, strict: bool) -> int:
        """Return 1 when a row was broken by a lab, 3 for gaps when strict, else 0."""
        judged = [
            found["ok"]
            for row in self.record["fidelity"]
            for link, found in row["links"].items()
            if link in JUDGED
        ]
        if False in judged:
            return 1
        return 3 if strict and None in judged else 0


def run(settings: Settings, notify: Notify) -> Outcome:
    """Measure every row on every link."""
    described = machine.describe()
    rows = [row for row in ROWS if not settings.only or row.name in settings.only]
    rows = [row.quick() for row in rows] if settings.quick else rows
    results: dict[str, dict[str, Result]] = {}
    not_runnable: dict[str, str] = {}
    with sysctls.preserved() as changed:
        for name, opened in LINKS.items():
            if settings.links and name not in settings.links:
                continue
            try:
                with opened() as ends:
                    results[name] = _rounds(settings.rounds, rows, name, ends, notify)
            except (BenchmarkError, NmError) as error:
                notify(f"  {name} is not runnable: {error}")
                not_runnable[name] = str(error)
    record = {
        "benchmark": "fidelity",
        "schema": 1,
        "machine": described,
        "settings": {**asdict(settings), "only": sorted(settings.only), "links": sorted(settings.links)},
        "sysctls_restored": {name: list(values) for name, values in changed.changed.items()},
        "sysctls_not_restored": changed.failed,
        "not_runnable": not_runnable,
        "fidelity": [_row_record(row, results) for row in rows],
        "rows": [],
    }
    return Outcome(record)


def _rounds(rounds: int, rows: list[Row], name: str, ends: Ends, notify: Notify) -> dict[str, Result]:
    """Measure the rows in rounds; a link draws its losses from where the round before ended."""
    found: dict[str, list[Result]] = {row.name: [] for row in rows}
    for number in range(rounds):
        wanted = [row for row in rows if name in JUDGED or _applies(row)]
        notify(f"{name}, round {number + 1}")
        results = measure(wanted, ends, notify)
        for key, result in results.items():
            found[key].append(result)
    missing = Result(reason="not applied: this kernel has no netem, which delay and loss need")
    return {key: median(each) if each else missing for key, each in found.items()}


def _applies(row: Row) -> bool:
    """Whether a reference can do what a row requests: its specification has a rate alone, or nothing."""
    return row.spec.keys() <= {"rate_bps"}


def _row_record(row: Row, results: Mapping[str, Mapping[str, Result]]) -> dict[str, Any]:
    return {
        "name": row.name,
        "title": row.title,
        "requested": dict(row.spec),
        "bar": row.bar,
        "links": {
            link: {
                "values": dict(found[row.name].values),
                "inside_95": inside_95(row, found[row.name].values),
                "ok": found[row.name].ok,
                "reason": found[row.name].reason,
            }
            for link, found in results.items()
        },
    }
