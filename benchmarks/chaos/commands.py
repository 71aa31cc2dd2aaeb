"""Run `nm` as a separate process, with JSON output and a timeout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["CommandResult", "Nm", "Started"]

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class CommandResult:
    """Result of a command.

    Attributes:
        words: The command, without `nm`.
        code: Its exit code; negative for a signal, None when it exceeded its limit and was killed.
        out: Standard output.
        err: Standard error.
    """

    words: tuple[str, ...]
    code: int | None
    out: str
    err: str

    @property
    def data(self) -> Any:
        """Its standard output parsed as JSON, or None."""
        try:
            return json.loads(self.out)
        except ValueError:
            return None

    @property
    def error(self) -> str | None:
        """The id of the error that it printed, or None."""
        for line in reversed(self.err.splitlines()):
            try:
                return str(json.loads(line)["error"]["id"])
            except (ValueError, KeyError, TypeError):
                continue
        return None

    @property
    def name(self) -> str:
        """The result in a word or two.

        It starts with `?` for a hang, an internal error or an exit code without an error id.
        """
        if self.code is None:
            return "?hung"
        if self.code == 0:
            return "ok"
        if self.code == -9:
            return "killed"
        if self.error in ("internal.error", "nm.error") or self._raised():
            return f"?bug {self.error}"
        if self.error is not None:
            return self.error
        data = self.data
        if isinstance(data, dict) and data.get("verdict") == "error" and data.get("reason"):
            return "verdict error"
        return f"?exit {self.code}"

    def _raised(self) -> bool:
        """Whether a traceback was printed; one inside an error's JSON is not on its own line."""
        return any(line.startswith("Traceback (most recent call last)") for line in self.err.splitlines())

    def __str__(self) -> str:
        return f"nm {' '.join(self.words)}: {self.name}\n{self.out[-1500:]}\n{self.err[-3000:]}"


class Started:
    """A command that is running."""

    def __init__(self, home: Path, folder: Path, words: tuple[str, ...]) -> None:
        self._words = words
        self._process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.cli", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**os.environ, "NM_HOME": str(home), "PYTHONPATH": str(_ROOT)},
            start_new_session=True,
        )

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def kill(self) -> None:
        """Kill its process with SIGKILL, not its children."""
        self._process.kill()

    def end(self, limit_s: float) -> CommandResult:
        """Wait for its end; after the limit it is killed, and `code` is None."""
        try:
            out, err = self._process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            out, err = self._process.communicate()
            return CommandResult(self._words, None, out, err)
        return CommandResult(self._words, self._process.returncode, out, err)


@dataclass(frozen=True, slots=True)
class Nm:
    """Starts `nm` with a separate NM_HOME.

    Attributes:
        home: NM_HOME.
        folder: The working directory.
    """

    home: Path
    folder: Path

    def start(self, *words: str) -> Started:
        """Start a command and return at once."""
        return Started(self.home, self.folder, words)

    def __call__(self, *words: str, limit_s: float = 60.0) -> CommandResult:
        """Run a command to its end."""
        return self.start(*words).end(limit_s)
