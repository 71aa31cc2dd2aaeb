"""What a lab and its runs say when a test has failed, as sections of pytest's report."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path

from orchestrator.errors import NmError
from orchestrator.lab import Lab
from orchestrator.results import RunOutcome

__all__ = ["in_words", "sections"]

_LINES = 10
"""Last lines of a log that are shown."""

_LOGS = 4
"""Logs that are shown of a lab or a run; those that were written last."""


def sections(lab: Lab, runs: Sequence[RunOutcome]) -> list[tuple[str, str]]:
    """Return titles and texts: the lab with its logs, and each run with its results, failures and logs."""
    found = [(f"lab {lab.name}", _state(lab))]
    logs = _tails(lab.directory / "logs") or _controller(lab)
    found += [(f"log {name} of lab {lab.name}", text) for name, text in logs]
    for run in runs:
        found.append((f"run {run.run}", "\n".join(in_words(run))))
        if not run.ok:
            found += [
                (f"log {name} of run {run.run}", text) for name, text in _tails(Path(run.results, "logs"))
            ]
    return found


def in_words(run: RunOutcome) -> list[str]:
    """Return a run as lines: its verdict, what did not hold or failed, and where its results are."""
    lines = [f"scenario {run.scenario}: {run.verdict}"]
    lines += [f"✗ {check.name}: {check.detail}" for check in run.checks if not check.ok]
    if run.reason:
        lines.append(f"the run did not come to its end: {run.reason}")
    for failure in run.failures[:3]:
        lines.append(f"node {failure.node} ({failure.role}): {failure.error}")
        lines += [f"    {line}" for line in failure.traceback.splitlines()]
    report = Path(run.results) / "report.html"
    lines.append(f"results in {run.results}" + (f", report in {report}" if report.is_file() else ""))
    return lines


def _state(lab: Lab) -> str:
    try:
        status = lab.status()
    except NmError as error:
        return error.message
    others = [f"node {node.id} is {node.state}" for node in status.nodes if node.state != "ready"]
    links = [f"link {link.a}-{link.b} is {link.state}" for link in status.links if link.state != "up"]
    lines = [f"{status.state} on the {lab.backend} backend, in {lab.directory}"]
    return "\n".join([*lines, *status.problems, *others[:_LINES], *links[:_LINES]])


def _controller(lab: Lab) -> list[tuple[str, str]]:
    """Return the log of the controller as the backend keeps it."""
    try:
        return [("controller", "\n".join(lab.logs("controller", tail=_LINES)))]
    except NmError:  # the lab is gone, which its state says
        return []


def _tails(folder: Path) -> list[tuple[str, str]]:
    """Return the last lines of the logs in a folder that were written last."""
    files = [path for path in folder.glob("*") if path.is_file() and path.stat().st_size]
    files.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    return [(path.name, _tail(path)) for path in files[:_LOGS]]


def _tail(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as lines:
        return "".join(deque(lines, _LINES)).rstrip("\n")
