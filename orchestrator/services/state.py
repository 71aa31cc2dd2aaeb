"""What became of a service: its states, and the error for one that makes a start fail.

waiting      for a service that it depends on
starting     it runs, and is not ready yet
running      it runs, and no more is known of it: it has no `ready`
ready        it runs, and its check passed
unready      it runs, and its check did not pass in time; it is tried further
restarting   it ended, and is going to be started again
exited       it ended with exit code 0, and stays so
failed       it ended otherwise and is not started again, or could not be started
stopped      its node does not run
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import StartFailed

__all__ = ["DEATHS", "FILE", "ServiceFailed", "ServiceState", "read"]

FILE = "service-states.json"
"""Its name in the lab's folder."""

DEATHS = 5
"""A start fails when a service has ended so often without becoming ready."""

GOOD = ("running", "ready", "exited")
"""States of a service with which a lab is ready."""

UNDER_WAY = ("waiting", "starting", "restarting", "stopped")
"""States that are going to change by themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceState:
    """What became of one service in one node.

    Attributes:
        node: The node.
        service: The service.
        state: See the module.
        restarts: How often it was started again after it had ended.
        exit_code: Of its last end; 128 + n for signal n. None while it never ended.
        reason: Why it is not as it should be, or what it waits for.
        deaths: How often it ended since it last was ready, or ran for ten seconds.
        process: native: the number of its process, which leads a group; 0 while there is none.
        started: native: when that was started, as the kernel counts.
    """

    node: int
    service: str
    state: str
    restarts: int = 0
    exit_code: int | None = None
    reason: str = ""
    deaths: int = 0
    process: int = 0
    started: int = 0

    @property
    def key(self) -> str:
        """What commands call it, such as `3/redis`."""
        return f"{self.node}/{self.service}"

    @property
    def good(self) -> bool:
        """Whether it is as it should be."""
        return self.state in GOOD

    @property
    def hopeless(self) -> bool:
        """Whether waiting for it is no use."""
        return self.state in ("failed", "unready") or (not self.good and self.deaths >= DEATHS)

    def problem(self) -> str:
        """What is wrong with it, as a sentence without its subject."""
        if not self.good and self.deaths >= DEATHS:
            return f"ended {self.deaths} times without becoming ready, the last time {self._how()}"
        return self.reason or f"is {self.state}"

    def sentence(self) -> str:
        """Its state and why, as a sentence without its subject."""
        return f"is {self.state}" + (f": it {self.problem()}" if self.reason else "")

    def _how(self) -> str:
        return "" if self.exit_code is None else f"with exit code {self.exit_code}"

    def as_json(self) -> dict[str, Any]:
        """It as `nm status -o json` shows it."""
        return {
            "node": self.node,
            "service": self.service,
            "state": self.state,
            "restarts": self.restarts,
            "exit_code": self.exit_code,
            "reason": self.reason,
        }


class ServiceFailed(StartFailed):
    """A service made a start fail, or did not come back; carries the last lines of its log."""

    id = "service.failed"

    def __init__(self, lab: str, state: ServiceState, lines: tuple[str, ...], *, hint: str = "") -> None:
        super().__init__(
            f"service {state.service} in node {state.node} of lab {lab} {state.problem()}",
            found=state.key,
            hint=hint or None,
            fields={"lab": lab, "node": state.node, "service": state.service},
        )
        self.lines = lines


def text(states: Mapping[str, ServiceState]) -> str:
    """The text of the file."""
    return json.dumps([asdict(state) for state in states.values()], indent=1) + "\n"


def read(folder: Path) -> dict[str, ServiceState]:
    """Read the file of a lab's folder, by key; empty without it."""
    try:
        raw = json.loads((folder / FILE).read_text())
        states = [ServiceState(**each) for each in raw]
    except (OSError, ValueError, TypeError):
        return {}
    return {state.key: state for state in states}
