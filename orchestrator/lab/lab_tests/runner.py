"""Run tests one after another: attempts until one holds, each with a time limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.clock import SystemClock
from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.state import LabState
from orchestrator.errors import NmError
from orchestrator.lab.lab_tests.kinds import KINDS, Nodes, Verdict
from orchestrator.lab.lab_tests.prober import Prober
from orchestrator.scenario import CheckResult
from orchestrator.topology import LabTest

__all__ = ["LabTestResult", "OnResult", "run_as_checks", "run_lab_tests", "run_one"]

_PAUSE_S = 0.2
"""Between attempts."""


@dataclass(frozen=True, slots=True)
class LabTestResult:
    """What came of a test.

    Attributes:
        name: The test's name.
        ok: Whether it held.
        detail: What was seen, and what was expected if it did not hold.
        seconds: How long it took, all attempts together.
    """

    name: str
    ok: bool
    detail: str
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """The result as `nm test -o json` prints it."""
        return {"name": self.name, "ok": self.ok, "detail": self.detail, "seconds": self.seconds}


OnResult = Callable[[LabTestResult], None]
"""Told each result when it is there."""


async def run_lab_tests(
    directory: LabDirectory,
    state: LabState,
    tests: Sequence[LabTest],
    on_result: OnResult = lambda _result: None,
) -> tuple[LabTestResult, ...]:
    """Run tests in a lab that is up, in their order; none ends the others by failing."""
    nodes = Prober(directory, state)
    results = []
    for test in tests:
        results.append(await run_one(test, nodes))
        on_result(results[-1])
    return tuple(results)


async def run_as_checks(
    directory: LabDirectory, state: LabState, tests: Sequence[LabTest]
) -> tuple[CheckResult, ...]:
    """Run the tests of a scenario; their results count as checks do."""
    results = await run_lab_tests(directory, state, tests)
    return tuple(CheckResult(each.name, each.ok, each.detail, int(each.ok), 1) for each in results)


async def run_one(test: LabTest, nodes: Nodes) -> LabTestResult:
    """Try a test until it holds or its `wait` is over; an attempt that does not end is ended."""
    clock = SystemClock()
    started = clock.monotonic()
    attempts = 0
    while True:
        attempts += 1
        verdict = await _attempt(test, nodes)
        elapsed = clock.monotonic() - started
        if verdict.ok or elapsed + _PAUSE_S > test.wait_s:
            break
        await asyncio.sleep(_PAUSE_S)
    detail = verdict.detail
    if attempts > 1:
        detail += f" (attempt {attempts}, after {elapsed:.1f} s)"
    return LabTestResult(test.name, verdict.ok, detail, round(elapsed, 3))


async def _attempt(test: LabTest, nodes: Nodes) -> Verdict:
    try:
        async with asyncio.timeout(test.timeout_s):
            return await KINDS[test.kind](test, nodes)
    except TimeoutError:
        return Verdict(False, f"it did not end within its timeout of {test.timeout_s:g} s")
    except NmError as error:
        return Verdict(False, error.message)
