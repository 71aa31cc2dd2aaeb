"""The interface through which `runs` acts: send messages, store state, report the end of a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from orchestrator.controller.run import Peer, Role, Run
from orchestrator.protocol.messages import Message, RunEvent, RunFinished
from orchestrator.values import MAX_NAME_BYTES, safe_text

__all__ = ["Effects", "failures_of"]

FAILURES_BYTES = 1024 * 1024
"""Bytes of errors and tracebacks in the message that tells of a run's end, a quarter of what it may have."""


class Effects(Protocol):
    """What a decision leads to; the service does it, a test looks at it."""

    def send(self, peer: Peer, message: Message) -> None:
        """Send a message to an agent."""
        ...

    def call(self, nodes: Iterable[int]) -> None:
        """Ask the processes of these nodes for their agents."""
        ...

    def record_event(self, run: Run, event: RunEvent) -> None:
        """Show an event to those who watch, and keep it (a `progress` is only shown)."""
        ...

    def save_roles(self, run: Run, roles: Iterable[Role]) -> None:
        """Keep how roles stand."""
        ...

    def save_barrier(self, run: Run, name: str, generation: int) -> None:
        """Keep that a barrier was released."""
        ...

    def save_run(self, run: Run, now_ms: int) -> None:
        """Keep how a run stands."""
        ...

    def report_end(self, run: Run, message: RunFinished) -> None:
        """Tell those who watch that a run has ended."""
        ...


def failures_of(bad: Iterable[tuple[int, str, str | None, str | None]]) -> tuple[dict[str, Any], ...]:
    """Return roles that did not end well as `RunFinished` tells of them, within a bound in bytes.

    Of the first ones all is told, then their errors in short; how many there are is always told.
    """
    left = FAILURES_BYTES
    failures: list[dict[str, Any]] = []
    for node, role, error, traceback in bad:
        size = sum(len((text or "").encode()) for text in (role, error, traceback))
        if size > left:
            error, traceback = safe_text(error or "", limit=200), None
            size = min(len(role), MAX_NAME_BYTES) + 200
        left -= size
        failures.append({"node": node, "role": role, "error": error, "traceback": traceback})
    return tuple(failures)
