"""Run the packet-path benchmark: describe the machine, open paths, check, measure, close, evaluate."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from benchmarks import machine, path_checks, sysctls
from benchmarks.costs import profile
from benchmarks.dataplane.cases import CASES, LOOPBACK, PATHS, PROFILED, Case
from benchmarks.dataplane.grading import CaseResult, case_results, target_results
from benchmarks.dataplane.rounds import Notify, measure_round, open_paths
from benchmarks.errors import BenchmarkError
from benchmarks.figures import Round, discard_slow_rounds
from benchmarks.iperf import Placement, Timing
from benchmarks.path_checks import Check
from benchmarks.paths import Path
from benchmarks.program import Outcome

__all__ = ["Settings", "run"]


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a run.

    Attributes:
        rounds: Rounds with programs and relays on fixed CPUs.
        unpinned_rounds: Rounds with everything left to the scheduler, after the others.
        timing: Length of the samples.
        transfer_bytes: Size of the transfer whose hash is compared.
        only: Names of the paths to measure; empty: all paths except those marked `on_demand`.
        checks: Whether the path checks run; without them the figures are unverified and the exit code is 1.
    """

    rounds: int = 5
    unpinned_rounds: int = 1
    timing: Timing = field(default_factory=Timing)
    transfer_bytes: int = 1_000_000_000
    only: frozenset[str] = frozenset()
    checks: bool = True


def run(settings: Settings, notify: Notify) -> Outcome:
    """Measure the packet path and its references, and leave the machine as it was."""
    described = machine.describe()
    with sysctls.preserved() as kernel, contextlib.ExitStack() as stack:
        cases = _chosen(settings.only)
        wanted = {case.path for case in cases}
        paths, reasons = open_paths([plan for plan in PATHS if plan.name in wanted], stack, notify)
        checks: list[Check] = []
        if settings.checks:
            for plan in PATHS:
                if plan.checked and plan.name in paths:
                    notify(f"checking {plan.name}")
                    checks += path_checks.check_path(paths[plan.name], transfer_bytes=settings.transfer_bytes)
        rounds = [
            measure_round(number, cases, paths, settings.timing, placement, notify)
            for number, placement in enumerate(_placements(settings), start=1)
        ]
        costs = _costs(cases, paths, settings.timing, notify)
    kept, dropped = discard_slow_rounds(rounds, loopback=LOOPBACK)
    results = case_results(cases, kept, reasons)
    targets = target_results(results)
    record = {
        "benchmark": "dataplane",
        "schema": 1,
        "machine": described,
        "settings": {**asdict(settings), "only": sorted(settings.only)},
        "sysctls_restored": {name: list(values) for name, values in kernel.changed.items()},
        "sysctls_not_restored": kernel.failed,
        "not_runnable": reasons,
        "cases": [_case_record(result) for result in results],
        "rounds": [_round_record(entry) for entry in rounds],
        "discarded": [asdict(entry) for entry in dropped],
        "costs": costs,
        "checks": [asdict(check) for check in checks],
        "rows": [result.as_json() for result in targets],
    }
    return Outcome(record, targets, _checks_ok(settings, checks))


def _checks_ok(settings: Settings, checks: Sequence[Check]) -> bool:
    """Whether the path checks ran and all passed."""
    return settings.checks and all(check.ok for check in checks)


def _chosen(only: frozenset[str]) -> list[Case]:
    """Return the cases on the chosen paths, and every case that they are compared with."""
    if not only:
        usual = {plan.name for plan in PATHS if not plan.on_demand}
        return [case for case in CASES if case.path in usual]
    needed = {LOOPBACK}
    frontier = {case.name for case in CASES if case.path in only}
    while frontier - needed:
        needed |= frontier
        frontier = {case.reference for case in CASES if case.name in needed and case.reference is not None}
    return [case for case in CASES if case.name in needed]


def _costs(
    cases: Sequence[Case], paths: Mapping[str, Path], timing: Timing, notify: Notify
) -> dict[str, dict[str, Any]]:
    """Return CPU time by kind for each profiled case, or the reason why it could not be profiled."""
    found: dict[str, dict[str, Any]] = {}
    for case in cases:
        if case.name not in PROFILED or case.path not in paths:
            continue
        notify(f"profiling {case.name}")
        try:
            sample = partial(measure_round, 0, [case], paths, timing, Placement.pinned(), notify)
            costs = profile(paths[case.path], sample)
            found[case.name] = {"costs": [asdict(cost) for cost in costs]}
        except BenchmarkError as error:
            found[case.name] = {"reason": str(error)}
    return found


def _placements(settings: Settings) -> Sequence[Placement | None]:
    pinned = Placement.pinned()
    first: list[Placement | None] = [pinned] * settings.rounds if pinned else []
    return first + [None] * (settings.unpinned_rounds if pinned else settings.rounds)


def _case_record(result: CaseResult) -> dict[str, Any]:
    plan = next(plan for plan in PATHS if plan.name == result.case.path)
    return {
        "name": result.case.name,
        "title": plan.title,
        "unit": result.case.unit,
        "reference": result.case.reference,
        "row": result.case.target,
        "pinned": asdict(result.pinned) if result.pinned else None,
        "unpinned": asdict(result.unpinned) if result.unpinned else None,
        "reason": result.reason,
    }


def _round_record(entry: Round) -> dict[str, Any]:
    return {
        "number": entry.number,
        "pinned": entry.pinned,
        "samples": {name: asdict(sample) for name, sample in entry.samples.items()},
        "failures": dict(entry.failures),
    }
