"""Convert runs and roles to database rows."""

from __future__ import annotations

from orchestrator.controller.run import Role, Run
from orchestrator.store import RoleRow, RunRow

__all__ = ["role_row", "run_row"]


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
