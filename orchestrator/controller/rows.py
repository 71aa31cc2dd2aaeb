"""Convert runs and roles to database rows, and back."""

from __future__ import annotations

from typing import Any

from orchestrator.controller.run import Role, Run
from orchestrator.protocol import encode_payload
from orchestrator.protocol.messages import Ack
from orchestrator.store import RoleRow, RunRow

__all__ = ["role_row", "run_from", "run_row", "value_bytes"]


def role_row(role: Role) -> RoleRow:
    """Return what is kept of a role."""
    return RoleRow(role.node, role.role, role.state, role.error, role.traceback)


def run_row(run: Run, monotonic: float, boot: str) -> RunRow:
    """Return what is kept of a run; `monotonic` is its start in seconds on the clock of that boot."""
    return RunRow(
        run=run.id,
        scenario=run.scenario,
        state=run.state,
        reason=run.reason,
        entry=run.entry,
        params=run.params,
        seed=run.seed,
        timeout_s=run.timeout_s,
        started_ms=run.started_ms,
        files=run.files,
        roles=tuple(role_row(role) for role in run.roles.values()),
        rows={},
        values={},
        barriers={},
        last_event=run.last_event,
        started_monotonic=monotonic,
        boot=boot,
    )


def run_from(row: RunRow, started_ms: int) -> Run:
    """Return a run as it was when the last controller ended.

    Args:
        row: What was kept of it.
        started_ms: When it started, by the clock of this controller.
    """
    roles = {
        role.node: Role(
            role.node,
            role.role,
            role.state,
            role.error,
            role.traceback,
            row.rows.get(role.node, 0),
            row.counts.get(role.node, 0),
        )
        for role in row.roles
    }
    return Run(
        row.run,
        row.scenario,
        row.entry,
        row.files,
        row.params,
        row.seed,
        row.timeout_s,
        started_ms,
        roles,
        row.state,
        row.reason,
        dict(row.values),
        dict(row.barriers),
        last_event=row.last_event,
        value_bytes={key: value_bytes(value) for key, value in row.values.items()},
    )


def value_bytes(value: Any) -> int:
    """Return how many bytes a published value has in a message."""
    return len(encode_payload(Ack(0, value)).data)
