"""Read the results folder of a run, also of one that was killed: what is missing or damaged is empty."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.results.series import read_series

if TYPE_CHECKING:
    import pyarrow

__all__ = ["RunFolder"]

NOT_SHOWN = frozenset({"report", "log", "progress"})
"""Kinds of events that are rows or lines of logs."""


@dataclass
class RunFolder:
    """What a results folder holds.

    Attributes:
        path: The folder.
        problems: What could not be read, as sentences.
    """

    path: Path
    problems: list[str] = field(default_factory=list)

    @cached_property
    def document(self) -> Mapping[str, Any]:
        """What `run.json` holds."""
        found = self._json("run.json")
        return found if isinstance(found, dict) else {}

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """What the roles reported; of a run that was killed, what its events have."""
        found = self._json("rows.json") if (self.path / "rows.json").is_file() else []
        rows = [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
        if self.document.get("verdict") in ("pass", "fail") and not self.document.get("unwritten"):
            return rows
        reported = [
            e["data"] for e in self._events() if e["kind"] == "report" and isinstance(e["data"], dict)
        ]
        return reported if len(reported) > len(rows) else rows

    @cached_property
    def events(self) -> list[dict[str, Any]]:
        """What happened, but for rows and logs."""
        return [event for event in self._events() if event["kind"] not in NOT_SHOWN]

    @cached_property
    def series(self) -> pyarrow.Table | None:
        """The time series; None if there are none."""
        try:
            return read_series(self.path)
        except (OSError, ValueError, ImportError) as error:
            self.problems.append(f"the time series cannot be read: {error}")
            return None

    def log_tails(self, lines: int, width: int) -> Iterator[tuple[str, list[str]]]:
        """Yield the name of every log and its last lines, each cut to a width."""
        for path in sorted((self.path / "logs").glob("*.log"), key=lambda path: _natural(path.name)):
            try:
                yield path.name, [_cut(line, width) for line in _tail(path, lines)]
            except OSError as error:
                self.problems.append(f"{path.name} cannot be read: {error.strerror or error}")

    def _events(self) -> Iterator[dict[str, Any]]:
        try:
            with (self.path / "events.jsonl").open(encoding="utf-8", errors="replace") as file:
                for line in file:
                    try:
                        event = json.loads(line)
                    except ValueError:
                        continue  # the last line of a run that was killed
                    if isinstance(event, dict):
                        yield {"time": "", "kind": "", "node": 0, "role": "", "data": None, **event}
        except OSError as error:
            self.problems.append(f"events.jsonl cannot be read: {error.strerror or error}")

    def _json(self, name: str) -> Any:
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8", errors="replace"))
        except (OSError, ValueError, RecursionError) as error:
            self.problems.append(f"{name} cannot be read: {error}")
            return None


_TAIL_BYTES = 65_536


def _tail(path: Path, lines: int) -> list[str]:
    """The last lines of a file, which may be large."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _TAIL_BYTES))
        content = file.read().decode("utf-8", "replace")
    return list(deque(content.splitlines(), lines))


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    """A key that sorts `node-10` behind `node-9`."""
    parts: list[tuple[int, str]] = []
    for part in name.replace(".", "-").split("-"):
        parts.append((int(part), "") if part.isdecimal() and len(part) < 12 else (-1, part))
    return tuple(parts)
