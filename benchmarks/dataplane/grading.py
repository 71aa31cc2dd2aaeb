"""Grade targets 1 to 9 from the measured rounds, or give the reason why one was not measured. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.dataplane.cases import Case
from benchmarks.figures import Round, Summary, summarise
from benchmarks.targets import TargetResult, grade_target, target

__all__ = ["CaseResult", "case_results", "target_results"]


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One case over the rounds that count: pinned and unpinned figures, or the reason why there are none."""

    case: Case
    pinned: Summary | None
    unpinned: Summary | None
    reason: str = ""


def case_results(
    cases: Sequence[Case], kept: Sequence[Round], not_runnable: Mapping[str, str]
) -> list[CaseResult]:
    """Summarise every case; `not_runnable` gives the reasons by path."""
    results = []
    for case in cases:
        groups = {True: [r for r in kept if r.pinned], False: [r for r in kept if not r.pinned]}
        pinned, unpinned = (
            summarise(
                groups[which], case.name, reference=case.reference, higher_is_better=case.higher_is_better
            )
            for which in (True, False)
        )
        reason = ""
        if pinned is None and unpinned is None:
            failures = [r.failures[case.name] for r in kept if case.name in r.failures]
            reason = not_runnable.get(case.path) or (failures[0] if failures else "no round counted")
        results.append(CaseResult(case, pinned, unpinned, reason))
    return results


def target_results(results: Sequence[CaseResult]) -> list[TargetResult]:
    """Grade targets 1 to 9; a target with several cases gets the worst of those that ran.

    Pinned rounds are graded; on a machine with one CPU, where there are none, the unpinned ones.
    """
    return [_grade(number, [r for r in results if r.case.target == number]) for number in range(1, 10)]


def _grade(number: int, results: Sequence[CaseResult]) -> TargetResult:
    figures: list[tuple[float, str]] = []
    missing: list[str] = []
    for result in results:
        summary = result.pinned or result.unpinned
        value = None if summary is None else _figure(result.case, summary)
        if summary is None or value is None:
            missing.append(f"{result.case.path}: {result.reason or 'its reference has no sample'}")
        else:
            placement = "pinned" if result.pinned else "unpinned"
            figures.append((value, _basis(result.case, summary, placement)))
    if not figures:
        return grade_target(number, None, note="; ".join(missing) or "left out of this run")
    worst = (min if target(number).higher_is_better else max)(figures, key=lambda figure: figure[0])
    return grade_target(
        number, worst[0], basis="; ".join(text for _, text in figures), note="; ".join(missing)
    )


def _figure(case: Case, summary: Summary) -> float | None:
    return summary.median if case.kind == "rtt" else summary.paired


def _basis(case: Case, summary: Summary, placement: str) -> str:
    count = len(summary.values)
    if case.kind == "rtt":
        return f"{case.path}: median of {count} medians, {placement}"
    return f"{case.path}: {summary.paired:.3f}, median of {len(summary.ratios)} paired ratios, {placement}"
