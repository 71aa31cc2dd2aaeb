"""Run the daily benchmark: program start, small labs, transfers, and links with impairments."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import labs, machine
from benchmarks.daily import fidelity
from benchmarks.daily.limits import compare_all
from benchmarks.errors import BenchmarkError, CommandFailed
from benchmarks.labs import Backend, topology
from benchmarks.limits import LimitResult
from benchmarks.program import Notify

__all__ = ["PARTS", "Outcome", "Settings", "run"]

Measured = tuple[str, float, str]
"""Key of a limit, value in its unit, and how it was measured."""

PARTS = ("program", "ring-native", "ring-docker", "tree-native", "tree-docker", "fidelity")

_ROOT = Path(__file__).resolve().parents[2]
_UP_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a run.

    Attributes:
        repeats: How often a start is measured; the median counts.
        payload_bytes: Size of the payload of weights-sync.
        only: Parts to run; empty means all.
    """

    repeats: int = 3
    payload_bytes: int = 90_000_000
    only: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a run; `record` is what goes into the file."""

    record: dict[str, Any]
    results: list[LimitResult]

    def exit_code(self, *, strict: bool) -> int:
        """Return 1 when a limit was not kept, 3 for gaps when strict, else 0."""
        if any(result.ok is False for result in self.results):
            return 1
        return 3 if strict and any(result.ok is None for result in self.results) else 0


def run(settings: Settings, notify: Notify) -> Outcome:
    """Measure daily use."""
    described = machine.describe()
    values: dict[str, tuple[float, str]] = {}
    reasons: dict[str, str] = {}
    not_runnable: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="nmbench-") as folder:
        payload = Path(folder) / "payload.bin"
        payload.write_bytes(random.Random(7).randbytes(settings.payload_bytes))
        for name, (keys, measure) in _parts(settings, payload).items():
            if settings.only and name not in settings.only:
                continue
            notify(name)
            try:
                for key, value, detail in measure():
                    values[key] = (value, detail)
                    notify(f"  {key}: {value:.3f} ({detail})")
            except BenchmarkError as error:
                notify(f"  not runnable: {error}")
                not_runnable[name] = str(error)
                reasons.update(dict.fromkeys(keys, str(error)))
    results = compare_all(values, reasons)
    record = {
        "benchmark": "daily",
        "schema": 1,
        "machine": described,
        "settings": {**asdict(settings), "only": sorted(settings.only)},
        "not_runnable": not_runnable,
        "goals": [result.as_json() for result in results],
        "rows": [],
    }
    return Outcome(record, results)


def _parts(
    settings: Settings, payload: Path
) -> Mapping[str, tuple[tuple[str, ...], Callable[[], Iterator[Measured]]]]:
    return {
        "program": (("help", "validate"), lambda: _program(settings)),
        "ring-native": (
            ("up-ring-native", "sync-native", "wire"),
            lambda: _ring(settings, "native", payload),
        ),
        "ring-docker": (("up-ring-docker", "sync-docker"), lambda: _ring(settings, "docker", payload)),
        "tree-native": (
            ("up-tree-native", "sync-tree-native", "pingall-native"),
            lambda: _tree(settings, payload),
        ),
        "tree-docker": (("up-tree-docker",), lambda: _start("up-tree-docker", _TREE, "docker", 1)),
        "fidelity": (("rate", "delay", "loss"), fidelity.measure),
    }


_RING = topology("ring", n_nodes=4)
_TREE = topology("fat_tree", k=4)


def _program(settings: Settings) -> Iterator[Measured]:
    ring = str(_ROOT / "topologies" / "ring.yaml")
    for key, words in {"help": ["--help"], "validate": ["validate", ring]}.items():
        seconds = [labs.nm(*words, timeout=30).seconds for _ in range(settings.repeats + 2)]
        yield key, median(seconds), f"median of {len(seconds)}"


def _start(key: str, text: str, backend: Backend, repeats: int) -> Iterator[Measured]:
    seconds = []
    for _ in range(repeats):
        with labs.lab(text, backend=backend, timeout=_UP_SECONDS) as running:
            seconds.append(running.up_seconds)
            running.down()
    yield key, median(seconds), f"median of {repeats}, program start to end"


def _ring(settings: Settings, backend: Backend, payload: Path) -> Iterator[Measured]:
    # The first start of a checkout may build images; it is not what a user waits for every day.
    with labs.lab(_RING, backend=backend, timeout=_UP_SECONDS * 3) as running:
        report = running.scenario("weights-sync", f"payload={payload}", "rounds=2")
        running.down()
    workers = _rows(report, "worker")
    slowest = min(float(row["mb_per_s"]) for row in workers)
    yield f"sync-{backend}", slowest, f"{len(workers)} reports, verdict {report['verdict']}"
    if backend == "native":
        shares = [
            float(row["bytes_sent"]) / (float(row["payload_bytes"]) * float(row["out_degree"]))
            for row in _rows(report, "trainer")
        ]
        yield "wire", max(shares), "as the trainer reports it"
    yield from _start(f"up-ring-{backend}", _RING, backend, settings.repeats)


def _tree(settings: Settings, payload: Path) -> Iterator[Measured]:
    with labs.lab(_TREE, timeout=_UP_SECONDS) as running:
        report = running.scenario("weights-sync", f"payload={payload}", "rounds=1")
        exact = sum(1 for row in _rows(report, "worker") if row["state"] == "complete")
        yield (
            "sync-tree-native",
            report["program_seconds"],
            f"{exact} of 35 complete, verdict {report['verdict']}",
        )
        pings = running.scenario("pingall")
        yield "pingall-native", pings["program_seconds"], f"verdict {pings['verdict']}, program start to end"
        running.down()
    yield from _start("up-tree-native", _TREE, "native", settings.repeats)


def _rows(report: Mapping[str, Any], role: str) -> list[dict[str, Any]]:
    found = [row for row in report["rows"] if row["role"] == role]
    if not found:
        raise CommandFailed(f"scenario {report['scenario']} has no report of a {role}")
    return found
