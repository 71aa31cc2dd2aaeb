"""The results folder of a run, written while the run goes on.

```text
run.json        verdict, checks, parameters, versions, host; "running" until the run has ended
topology.yaml   the resolved topology
rows.csv        what the roles reported, one column per key
rows.json       the same as JSON
events.jsonl    everything that happened, a line each, in order
logs/           what each role logged, a file per node
```

An event is on disk when it has happened. The row files are rewritten whole a few times a second at most, so a
crash costs them the last moments, which `events.jsonl` still has.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from orchestrator.clock import Clock, SystemClock, utc_text
from orchestrator.errors import HostNotFit
from orchestrator.results.outcome import RunOutcome

REWRITE_S = 0.25
"""How far the row files may lie behind: a thousand rows a second must not mean a thousand files a second."""


class ResultsFolder:
    """Takes what happens in a run.

    Args:
        path: The folder; made if it is not there.
        document: What is known at the start, for `run.json`.
        topology: The resolved topology as YAML.
        clock: Where the time of an event comes from.

    Raises:
        HostNotFit: The folder cannot be written.
    """

    def __init__(
        self, path: Path, document: Mapping[str, Any], topology: str, clock: Clock | None = None
    ) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self._document = dict(document)
        self._clock = clock or SystemClock()
        self._written = float("-inf")
        try:
            (path / "logs").mkdir(parents=True, exist_ok=True)
            self._write("topology.yaml", topology)
            self._write("run.json", _pretty({**self._document, "verdict": "running"}))
            self._write_rows()
            self._events: TextIO = (path / "events.jsonl").open("a", buffering=1)
        except OSError as error:
            raise unwritable(path, error) from error

    def event(self, kind: str, *, node: int = 0, role: str = "", data: Any = None) -> None:
        """Something happened."""
        line = {"time": utc_text(self._clock.wall()), "kind": kind, "node": node, "role": role, "data": data}
        self._guard(lambda: self._events.write(json.dumps(line, default=str) + "\n"))

    def row(self, row: Mapping[str, Any]) -> None:
        """A role reported a row."""
        self.rows.append(dict(row))
        self.event("report", node=int(row.get("node", 0)), role=str(row.get("role", "")), data=dict(row))
        if self._clock.monotonic() - self._written >= REWRITE_S:
            self._guard(self._write_rows)

    def log(self, node: int, role: str, level: str, text: str) -> None:
        """A role logged a line."""
        name = f"node-{node}-{role}.log" if role else "run.log"
        line = f"{utc_text(self._clock.wall())}  {level:<7}  {text}\n"

        def append() -> None:
            with (self.path / "logs" / name).open("a") as file:
                file.write(line)

        self._guard(append)

    def finish(self, outcome: RunOutcome) -> None:
        """The run has ended: bring every file to its last state."""
        self.event("finished", data={"verdict": outcome.verdict, "reason": outcome.reason})
        self._guard(self._write_rows)
        self._guard(lambda: self._write("run.json", _pretty({**self._document, **outcome.document()})))
        self.close()

    def note(self, text: str) -> None:
        """Keep a remark about the run itself."""
        self.log(0, "", "warning", text)

    def close(self) -> None:
        """Stop writing; what is known is on disk."""
        self._guard(self._events.close)

    def _write_rows(self) -> None:
        self._written = self._clock.monotonic()
        self._write("rows.json", _pretty(self.rows))
        self._write("rows.csv", _csv(self.rows))

    def _write(self, name: str, text: str) -> None:
        temporary = self.path / f".{name}.part"
        temporary.write_text(text)
        temporary.replace(self.path / name)

    def _guard(self, write: Any) -> None:
        try:
            write()
        except OSError as error:
            raise unwritable(self.path, error) from error


def unwritable(path: Path, error: OSError) -> HostNotFit:
    """The error for a folder that does not take what we found out."""
    return HostNotFit(
        f"cannot write results to {path}: {error.strerror or error}",
        id="results.unwritable",
        found=str(path),
        hint="`--results DIR` names another folder",
    )


def columns(rows: list[dict[str, Any]]) -> list[str]:
    """Every key of any row, in order of first appearance."""
    return list(dict.fromkeys(key for row in rows for key in row))


def _csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns(rows), restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _cell(value) for key, value in row.items()})
    return text.getvalue()


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict | list) else value


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, default=str) + "\n"
