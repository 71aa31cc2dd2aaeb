"""Measure all cases round by round, so that each is compared with its reference of the same round.

Paths are opened once and stay open for the whole run; idle ones cost nothing. A case that fails in one round
is recorded there with the reason and measured again in the next.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from benchmarks import iperf
from benchmarks.dataplane.cases import Case, PathPlan
from benchmarks.errors import BenchmarkError
from benchmarks.figures import Round, Sample
from benchmarks.iperf import Placement, Timing
from benchmarks.paths import Path
from benchmarks.proc import thread_ids

__all__ = ["Notify", "measure_round", "open_paths", "placed"]

Notify = Callable[[str], None]


def open_paths(
    plans: Sequence[PathPlan], stack: contextlib.ExitStack, notify: Notify
) -> tuple[dict[str, Path], dict[str, str]]:
    """Open every path that can be opened.

    Args:
        plans: What to open, in order.
        stack: Closes the paths again, in reverse.
        notify: Called with a progress message for each path.

    Returns:
        The open paths by name, and for the others the reason why they are not runnable here.
    """
    opened: dict[str, Path] = {}
    reasons: dict[str, str] = {}
    for plan in plans:
        notify(f"opening {plan.name}: {plan.title}")
        try:
            opened[plan.name] = replace(stack.enter_context(plan.open()), name=plan.name)
        except BenchmarkError as error:
            reasons[plan.name] = str(error)
            notify(f"  not runnable: {error}")
    return opened, reasons


def measure_round(
    number: int,
    cases: Sequence[Case],
    paths: Mapping[str, Path],
    timing: Timing,
    placement: Placement | None,
    notify: Notify,
) -> Round:
    """Take one sample of every case whose path is open."""
    samples: dict[str, Sample] = {}
    failures: dict[str, str] = {}
    for case in cases:
        path = paths.get(case.path)
        if path is None:
            continue
        try:
            with placed(path, placement.anywhere() if placement and case.relays_anywhere else placement):
                samples[case.name] = _measure(case, path, timing, placement)
        except BenchmarkError as error:
            failures[case.name] = str(error)
            notify(f"  round {number}: {case.name}: {error}")
        else:
            notify(f"  round {number}: {case.name}: {samples[case.name].value:,.2f} {case.unit}")
    return Round(number, placement is not None, samples, failures)


@contextlib.contextmanager
def placed(path: Path, placement: Placement | None) -> Iterator[None]:
    """Set the CPU affinity of the relays' threads inside the block; None leaves it unchanged."""
    before: dict[int, set[int]] = {}
    if placement is not None:
        for pid in path.relays():
            for thread in thread_ids(pid):
                with contextlib.suppress(OSError):  # it may have ended meanwhile
                    before[thread] = os.sched_getaffinity(thread)
                    os.sched_setaffinity(thread, placement.relays)
    try:
        yield
    finally:
        for thread, cpus in before.items():
            with contextlib.suppress(OSError):
                os.sched_setaffinity(thread, cpus)


def _measure(case: Case, path: Path, timing: Timing, placement: Placement | None) -> Sample:
    if case.kind == "tcp":
        return iperf.tcp(path, timing, placement)
    if case.kind == "udp":
        return iperf.udp(path, timing, placement)
    return iperf.rtt(path, timing)
