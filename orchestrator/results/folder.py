"""The results folder of a run, written during the run.

```text
run.json        verdict, checks, parameters, versions, host; "running" until the run has ended
topology.yaml   the resolved topology
scenario/       the scenario's files, as the nodes got them
files/          the files that parameters name, unless they are large
rows.csv        what the roles reported, one column per key
rows.json       the same as JSON
rows.parquet    the same with the type of each column; written when the run has ended
events.jsonl    everything that happened, a line each, in order
series.parquet  time series, once a second; series.csv until the run has ended
logs/           what each role logged, a file per node
plots/          what was drawn when the run had ended
report.html     the page about the run
captures/       what `capture:` of the scenario asks for, a pcapng file per entry
```

An event is on disk when it has happened, and a row is one. The tables of rows are rewritten when there are
twice as many rows as in the last ones, and at the end; what they lack after a crash, `events.jsonl` has. So
the work for all rows together grows as their number, however many there are and whatever columns they
bring.

What cannot be written never ends a run: it is reported once, the run continues, and `trouble` says so at its
end.
"""

from __future__ import annotations

import csv
import fcntl
import io
import json
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from orchestrator.clock import Clock, SystemClock, utc_text
from orchestrator.errors import HostNotFit
from orchestrator.results.outcome import RunOutcome
from orchestrator.results.parquet import columns, parquet_bytes

EVENTS = "events.jsonl"
"""The file of everything that happened; locked while the run is under way."""

FIRST_REWRITE = 8
"""Rows at which the tables are written for the first time before the end."""

MAX_OPEN_LOGS = 200
"""Log files that are open at a time; a lab of a thousand nodes has more, and a process may have so many."""

Stop = Callable[[], bool]


class ResultsFolder:
    """Takes what happens in a run.

    Args:
        path: The folder; made if it is not there. One that has a run is refused.
        document: What is known at the start, for `run.json`.
        topology: The resolved topology as YAML.
        clock: Where the time of an event comes from.
        files: Further files by relative path: those that the topology names, and the scenario's.

    Attributes:
        rows: What was reported so far, in order of arrival; read it, add by `row`.
        trouble: Why something could not be written, as a sentence; empty while all could be.

    Raises:
        HostNotFit: The folder cannot be written.
    """

    def __init__(
        self,
        path: Path,
        document: Mapping[str, Any],
        topology: str,
        clock: Clock | None = None,
        files: Mapping[str, str | bytes] | None = None,
    ) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.trouble = ""
        self._document = dict(document)
        self._clock = clock or SystemClock()
        self._tabled = 0
        self._tables = threading.Lock()
        self._logs: dict[str, TextIO] = {}
        try:
            (path / "logs").mkdir(parents=True, exist_ok=True)
            _claim(path)
            self._write("topology.yaml", [topology])
            for name, content in (files or {}).items():
                self._keep(name, content)
            self._write("run.json", [_pretty({**self._document, "verdict": "running"})])
            self._write_rows([])
            self._events: TextIO = _appended(path / EVENTS)
            with suppress(OSError):  # some network file systems have no locks
                fcntl.flock(
                    self._events, fcntl.LOCK_EX | fcntl.LOCK_NB
                )  # until it is closed, or the process ends
        except OSError as error:
            raise unwritable(path, error) from error

    def event(self, kind: str, *, node: int = 0, role: str = "", data: Any = None) -> None:
        """Something happened."""
        line = {"time": utc_text(self._clock.wall()), "kind": kind, "node": node, "role": role, "data": data}
        self._attempt(lambda: self._events.write(_json(line) + "\n"))

    def row(self, node: int, role: str, row: Mapping[str, Any]) -> bool:
        """A role reported a row.

        Args:
            node: The role's node; a row cannot say otherwise.
            role: The role's name.
            row: What it reported.

        Returns:
            Whether the tables are due; `write_tables` writes them, which may take a while.
        """
        kept = {"node": node, "role": role, **{k: v for k, v in row.items() if k not in ("node", "role")}}
        self.rows.append(kept)
        self.event("report", node=node, role=role, data=kept)
        return len(self.rows) >= max(FIRST_REWRITE, 2 * self._tabled)

    def log(self, node: int, role: str, level: str, text: str) -> None:
        """A role logged a line."""
        name = f"node-{node}-{role}.log" if role else "run.log"
        line = f"{utc_text(self._clock.wall())}  {level:<7}  {text}\n"
        self._attempt(lambda: self._log_file(name).write(line))

    def write_tables(self, stop: Stop = lambda: False) -> None:
        """Write `rows.json` and `rows.csv` with all rows so far; may be called from another thread.

        Args:
            stop: Asked between rows; when it says so, the tables stay as they were.
        """
        with self._tables:  # a thread that was told to stop may still be at it
            rows = list(self.rows)
            self._tabled = len(rows)
            self._attempt(lambda: self._write_rows(rows, stop))

    def write_last_tables(self, stop: Stop = lambda: False) -> None:
        """Write all tables of a run that has ended: those of `write_tables`, and `rows.parquet`."""
        self.write_tables(stop)
        with self._tables:
            self._attempt(lambda: self._write_parquet(list(self.rows), stop))

    def finish(self, outcome: RunOutcome) -> None:
        """The run has ended: keep its verdict. `write_tables` comes before or after."""
        self.event("finished", data={"verdict": outcome.verdict, "reason": outcome.reason})
        ended = {**self._document, **outcome.document(), "unwritten": outcome.unwritten or self.trouble}
        self._attempt(lambda: self._write("run.json", [_pretty(ended)]))

    def note(self, text: str) -> None:
        """Keep a remark about the run itself."""
        self.log(0, "", "warning", text)

    def close(self) -> None:
        """Stop writing; what is known is on disk. Twice is fine."""
        for file in (self._events, *self._logs.values()):
            self._attempt(file.close)
        self._logs.clear()

    def _log_file(self, name: str) -> TextIO:
        file = self._logs.get(name)
        if file is None:
            while len(self._logs) >= MAX_OPEN_LOGS:
                self._logs.pop(next(iter(self._logs))).close()
            file = self._logs[name] = _appended(self.path / "logs" / name)
        return file

    def _write_rows(self, rows: Sequence[Mapping[str, Any]], stop: Stop = lambda: False) -> None:
        self._write("rows.json", _json_lines(rows), stop)
        self._write("rows.csv", _csv_lines(rows), stop)

    def _write_parquet(self, rows: Sequence[Mapping[str, Any]], stop: Stop) -> None:
        data = parquet_bytes(rows, stop)
        if data is not None:
            self._keep("rows.parquet", data)

    def _keep(self, name: str, content: str | bytes) -> None:
        """Write a file as a whole, below the folder."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.part")
        try:
            temporary.write_bytes(content.encode() if isinstance(content, str) else content)
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise

    def _write(self, name: str, parts: Iterable[str], stop: Stop = lambda: False) -> None:
        temporary = self.path / f".{name}.part"
        try:
            with temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
                for part in parts:
                    if stop():
                        temporary.unlink()
                        return
                    file.write(part)
            temporary.replace(self.path / name)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise

    def _attempt(self, write: Callable[[], object]) -> None:
        """Write something; whatever prevents it is remembered, because what is measured goes on."""
        try:
            write()
        except (ImportError, OSError, ValueError, TypeError, RecursionError) as error:
            if not self.trouble:
                self.trouble = unwritable(self.path, error).message


def unwritable(path: Path, error: Exception | str) -> HostNotFit:
    """The error for a folder that does not take what we found out."""
    reason = (isinstance(error, OSError) and error.strerror) or error
    return HostNotFit(
        f"cannot write results to {path}: {reason}",
        id="results.unwritable",
        found=str(path),
        hint="`--results DIR` names another folder",
    )


def _claim(path: Path) -> None:
    """Make `run.json`, which tells that a folder has a run; of two runs at once, one has the folder."""
    try:
        (path / "run.json").touch(exist_ok=False)
    except FileExistsError as error:
        raise unwritable(path, "a run is kept there already") from error


def _appended(path: Path) -> TextIO:
    return path.open("a", buffering=1, encoding="utf-8", errors="backslashreplace")


def _json_lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A JSON list, a row on each line."""
    yield "["
    for index, row in enumerate(rows):
        yield f"{',' if index else ''}\n  {_json(row)}"
    yield "\n]\n" if rows else "]\n"


def _csv_lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heads = columns(rows)
    place = {head: index for index, head in enumerate(heads)}
    writer.writerow(heads)
    for row in rows:
        cells: list[Any] = [""] * len(heads)
        for key, value in row.items():
            cells[place[key]] = _cell(value)
        writer.writerow(cells)
        yield text.getvalue()
        text.seek(0)
        text.truncate()
    yield text.getvalue()


def _cell(value: Any) -> Any:
    return _json(value) if isinstance(value, dict | list) else value


def _json(value: Any) -> str:
    return _dump(value, None)


def _pretty(value: Any) -> str:
    return _dump(value, 2) + "\n"


def _dump(value: Any, indent: int | None) -> str:
    try:
        return json.dumps(value, indent=indent, default=str, allow_nan=False)
    except ValueError:  # seldom, so that values need not be walked through twice
        return json.dumps(_finite(value), indent=indent, default=str, allow_nan=False)


def _finite(value: Any) -> Any:
    """The value with null for what JSON has no number for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value
