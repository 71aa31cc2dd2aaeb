"""A pytest plugin that fails the run on unexpected skips.

A skipped test verifies nothing, and a missing program would skip many tests silently. With NM_STRICT_SKIPS=1
in the environment, each skip's reason has to match a line of `tests/expected_skips.txt` (regular expressions,
`#` begins a comment); the others are listed and the run exits with 1. Where tests run in several worker
processes (pytest-xdist), each worker tells the main one.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

EXPECTED = Path(__file__).resolve().parent.parent / "tests" / "expected_skips.txt"
_unexpected: list[str] = []
_KEY = "unexpected_skips"


def expected_reasons(text: str) -> list[re.Pattern[str]]:
    """Read the patterns of a list of expected skips."""
    lines = (line.split("#", 1)[0].strip() for line in text.splitlines())
    return [re.compile(line) for line in lines if line]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember a skip that no pattern names."""
    if report.skipped and not hasattr(report, "wasxfail"):
        _judge(report.nodeid, report.longrepr)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Remember a whole file that skipped itself while it was being read."""
    if report.skipped:
        _judge(report.nodeid, report.longrepr)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a worker has met: files that skipped themselves are known to it alone."""
    output: dict[str, Any] = getattr(node, "workeroutput", {})  # a worker that crashed has none
    _unexpected.extend(line for line in output.get(_KEY, []) if line not in _unexpected)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turn unexpected skips into a failed run."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[_KEY] = _unexpected
    elif _unexpected and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the unexpected skips where the failures stand."""
    if _unexpected:
        terminalreporter.section("unexpected skips", red=True)
        for line in _unexpected:
            terminalreporter.write_line(line)
        terminalreporter.write_line("a skip that is meant goes into tests/expected_skips.txt")


def _judge(nodeid: str, longrepr: object) -> None:
    if os.environ.get("NM_STRICT_SKIPS") != "1":
        return
    reason = str(longrepr[2] if isinstance(longrepr, tuple) else longrepr)
    if not any(pattern.search(reason) for pattern in expected_reasons(EXPECTED.read_text())):
        _unexpected.append(f"{nodeid}: {reason}")
