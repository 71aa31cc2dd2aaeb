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
    """The side effects of decisions about runs; carried out by the service, recorded by tests."""

    def send(self, peer: Peer, message: Message) -> None:
        """Send a message to an agent."""
        ...

    def call(self, nodes: Iterable[int]) -> None:
        """Request the agents of these nodes from their processes."""
        ...

    def record_event(self, run: Run, event: RunEvent) -> None:
        """Send an event to the subscribers of the run, and store it unless it is `progress`."""
        ...

    def save_roles(self, run: Run, roles: Iterable[Role]) -> None:
        """Store the states of roles."""
        ...

    def save_barrier(self, run: Run, name: str, generation: int) -> None:
        """Store that a barrier was released."""
        ...

    def save_run(self, run: Run, now_ms: int) -> None:
        """Store the state of a run."""
        ...

    def report_end(self, run: Run, message: RunFinished) -> None:
        """Tell the subscribers that a run has ended."""
        ...


def failures_of(bad: Iterable[tuple[int, str, str | None, str | None]]) -> tuple[dict[str, Any], ...]:
    """Return roles that did not end well as `RunFinished` tells of them, within a bound in bytes.

    The first ones are complete, the next ones with short errors; their number is always included.
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
