"""Find the results folders of runs, and their reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["REPORT", "ResultFolders"]

REPORT = "report.html"
"""The report of a run in its results folder."""

MOST_FOLDERS = 100
"""Folders that are shown, the newest ones; their names begin with the time of the run."""

MOST_BYTES = 64 * 1024 * 1024
"""A `run.json` or a report that is larger is left alone."""


class ResultFolders:
    """The results folders in a folder.

    Args:
        path: The folder in which runs get theirs; it may be missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, tuple[tuple[int, int], dict[str, Any]]] = {}

    def find(self) -> dict[str, dict[str, Any]]:
        """Return what is known of each run that has a folder, by its id."""
        found: dict[str, dict[str, Any]] = {}
        try:
            names = sorted(entry.name for entry in self.path.iterdir() if entry.is_dir())[-MOST_FOLDERS:]
        except OSError:
            return found
        for name in names:
            about = self._read(name)
            if about is not None:
                run = str(about.pop("run"))
                found[run] = {**about, "folder": name, "report": (self.path / name / REPORT).is_file()}
        return found

    def report(self, name: str) -> Path | None:
        """Return the report in a folder of that name; None if there is none."""
        if name != Path(name).name or name in ("", ".", ".."):
            return None
        path = self.path / name / REPORT
        return path if path.is_file() else None

    def _read(self, name: str) -> dict[str, Any] | None:
        """Return the run of a folder; None for a folder that has none."""
        file = self.path / name / "run.json"
        try:
            stat = file.stat()
            stamp = (stat.st_mtime_ns, stat.st_size)
            if name not in self._known or self._known[name][0] != stamp:
                document = json.loads(file.read_bytes()) if stat.st_size < MOST_BYTES else {}
                about = {key: str(document.get(key, "")) for key in ("run", "scenario", "verdict")}
                self._known[name] = stamp, about
        except (OSError, ValueError, AttributeError):
            return None
        about = self._known[name][1]
        return dict(about) if about["run"] else None
