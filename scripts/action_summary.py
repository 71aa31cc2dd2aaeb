"""Write what a run or tests gave as Markdown, for the summary of a GitHub job; needs Python alone.

python3 scripts/action_summary.py RESULTS
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

MOST_ROWS = 50
"""Rows of roles that are shown; all are in the artefact."""

MOST_COLUMNS = 12


def summary(results: Path) -> str:
    """Return the summary of a results folder that the action has written."""
    tests, run = _read(results / "tests.json"), _read(results / "run-output.json")
    if isinstance(tests, list):
        return _of_tests(tests)
    if isinstance(run, dict):
        return _of_run(run)
    return "\n".join(["## nm: error", "", *_quoted(results / "messages.txt")]) + "\n"


def _of_tests(tests: Sequence[dict[str, Any]]) -> str:
    failed = sum(not each["ok"] for each in tests)
    rows = [(_mark(each["ok"]), each["name"], each["detail"], f"{each['seconds']:.1f} s") for each in tests]
    title = f"## nm test: {len(tests) - failed} of {len(tests)} passed"
    return "\n".join([title, "", *_table(("", "Test", "What was seen", "Time"), rows)]) + "\n"


def _of_run(run: dict[str, Any]) -> str:
    lines = [f"## {run['scenario']}: {run['verdict']}", ""]
    lines += [
        f"Run `{run['run']}` on the {run['backend']} backend, seed {run['seed']}, {run['seconds']:.1f} s.",
        "",
    ]
    if run["reason"]:
        lines += [f"The run did not come to its end: {_cell(run['reason'])}", ""]
    lines += [f"- node {each['node']} ({each['role']}): {_cell(each['error'])}" for each in run["failures"]]
    if run["failures"]:
        lines.append("")
    if run["checks"]:
        checks = [(_mark(each["ok"]), each["name"], each["detail"]) for each in run["checks"]]
        lines += [*_table(("", "Check", "What was seen"), checks), ""]
    if fidelity := run["fidelity"].get("verdict"):
        lines += [f"Fidelity of the links: {fidelity}.", ""]
    rows: list[dict[str, Any]] = run["rows"]
    columns = list(dict.fromkeys(key for row in rows for key in row))[:MOST_COLUMNS]
    if rows:
        shown = [[row.get(column, "") for column in columns] for row in rows[:MOST_ROWS]]
        more = f" (the first {MOST_ROWS})" if len(rows) > MOST_ROWS else ""
        lines += ["<details>", f"<summary>{len(rows)} rows{more}</summary>", "", *_table(columns, shown), ""]
        lines += ["</details>", ""]
    return "\n".join(lines)


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    return lines + [f"| {' | '.join(_cell(value) for value in row)} |" for row in rows]


def _mark(ok: bool) -> str:
    return "✅" if ok else "❌"


def _cell(value: object) -> str:
    """Return a value as text of one cell, in which nothing is Markdown or HTML."""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    for sign in "\\`*_[]|":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").split())


def _quoted(file: Path) -> list[str]:
    """Return what `nm` said, as a block of code."""
    said = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else "it said nothing"
    return ["~~~~text", *said.replace("~~~~", "~~~").splitlines()[-40:], "~~~~"]


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


if __name__ == "__main__":
    print(summary(Path(sys.argv[1])), end="")
