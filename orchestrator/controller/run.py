"""The state of one run in the controller: its roles, barriers and published values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.controller.errors import RunInvalid
from orchestrator.protocol.messages import StartRun, TimelineChange
from orchestrator.traffic import ROLE as TRAFFIC
from orchestrator.values import MAX_ERROR_BYTES, safe_text

__all__ = [
    "MAX_VALUES",
    "MAX_VALUES_BYTES",
    "NODE_STOPPED",
    "STOPPED_BY_TIMELINE",
    "Peer",
    "Role",
    "Run",
    "planned",
]

MAX_VALUES = 10_000
"""Values that a run may publish."""

MAX_VALUES_BYTES = 64 * 1024 * 1024
"""Bytes of them; the controller keeps them all for those who ask."""

NODE_STOPPED = "its node was stopped by request"
"""Why a role is lost with its node."""

STOPPED_BY_TIMELINE = "its node was stopped by the timeline"
"""Why a role ends with a node that the timeline of its own run stops; that does not fail the run."""

ENDED = frozenset({"finished", "failed", "stopped", "lost"})
"""Role states after which nothing comes."""

Peer = Hashable


@dataclass(slots=True)
class Role:
    """A role in a node: `waiting`, `sent`, `running`, `finished`, `failed`, `stopped` or `lost`.

    Attributes:
        last_row: The number of its last row.
        stored: How many of its rows were kept.
        refusal: Why one was not.
    """

    node: int
    role: str
    state: str = "waiting"
    error: str | None = None
    traceback: str | None = None
    last_row: int = 0
    stored: int = 0
    refusal: str = ""

    @property
    def over(self) -> bool:
        """Whether nothing comes from it any more."""
        return self.state in ENDED

    @property
    def enters_barriers(self) -> bool:
        """Whether barriers wait for it: not if it has ended, or its node only carries generated traffic."""
        return not self.over and self.role != TRAFFIC

    def reported_as(self, row: Mapping[str, Any]) -> str:
        """The role of a row: generated traffic is reported beside the role of the node."""
        return TRAFFIC if row.get("role") == TRAFFIC else self.role


@dataclass(slots=True)
class Run:
    """A run that is under way, or has just ended.

    Attributes:
        late: Its time is over: what roles report from now on is not kept.
        unstored: Rows that were reported and not kept.
        value_bytes: Bytes of each published value.
        timeline: What is done to links during it, in order.
        faults: Whether its roles may change links.
        isolated: Its roles that run in processes of their own.
        stopped_nodes: Nodes that its timeline has stopped: their roles are stopped, not lost.
        paused_nodes: Nodes that its timeline has paused: their agents may be away for long.
    """

    id: str
    scenario: str
    entry: str
    files: Mapping[str, bytes]
    params: Mapping[str, Any]
    seed: int
    timeout_s: float
    started_ms: int
    roles: dict[int, Role]
    state: str = "running"
    reason: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    barriers: dict[str, int] = field(default_factory=dict)
    entered: dict[tuple[str, int], set[int]] = field(default_factory=lambda: defaultdict(set))
    lookups: dict[str, set[Peer]] = field(default_factory=lambda: defaultdict(set))
    prepared: set[Peer] = field(default_factory=set)
    last_event: int = 0
    stop_by_ms: int | None = None
    late: bool = False
    unstored: int = 0
    value_bytes: dict[str, int] = field(default_factory=dict)
    timeline: tuple[TimelineChange, ...] = ()
    faults: bool = False
    isolated: tuple[str, ...] | None = None
    stopped_nodes: set[int] = field(default_factory=set)
    paused_nodes: set[int] = field(default_factory=set)

    @property
    def all_started(self) -> bool:
        """Whether every role has started, and may have ended since."""
        return not any(role.state in ("waiting", "sent") for role in self.roles.values())

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state in ("finished", "failed")

    def note_fault(self, node: int, fault: str) -> None:
        """Note what its timeline does to a node."""
        if fault in ("kill", "stop"):
            self.stopped_nodes.add(node)
        elif fault == "pause":
            self.paused_nodes.add(node)
        elif fault == "unpause":
            self.paused_nodes.discard(node)

    def loss_of(self, role: Role, why: str) -> tuple[str, str]:
        """Return state and error of a role that is lost for a reason."""
        return ("stopped", STOPPED_BY_TIMELINE) if role.node in self.stopped_nodes else ("lost", why)

    def note_unstored(self) -> None:
        """Add to the reason how many rows were not kept."""
        if self.unstored:
            more = f"{self.unstored} rows that its roles had reported were not stored"
            self.reason = f"{self.reason}; {more}" if self.reason else more

    def stopped_with(self, error: str | None) -> bool:
        """Whether a role that ended with this error was only stopped: its agent says the reason it was told.

        Of a run that takes too long, whoever is stopped has failed.
        """
        told = safe_text(self.reason, limit=MAX_ERROR_BYTES)
        return self.state == "stopping" and not self.late and error == told

    def too_long(self) -> str:
        """Say that the time is over, and which roles are still running."""
        open_roles = [f"{role.role} in node {role.node}" for role in self.roles.values() if not role.over]
        shown = ", ".join(open_roles[:5]) + (
            f" and {len(open_roles) - 5} more" if len(open_roles) > 5 else ""
        )
        return f"the run did not end within {self.timeout_s:g} s: still running are {shown}"

    def by_role(self) -> dict[str, tuple[int, ...]]:
        """Return node ids by role, sorted."""
        found: dict[str, list[int]] = defaultdict(list)
        for node in sorted(self.roles):
            found[self.roles[node].role].append(node)
        return {role: tuple(nodes) for role, nodes in found.items()}


def planned(wanted: StartRun) -> tuple[TimelineChange, ...]:
    """Return the timeline of a run that shall be started, with the contents of its traces.

    Raises:
        RunInvalid: One of them is missing.
    """
    try:
        return tuple(change.with_traces(wanted.traces or {}) for change in wanted.timeline or ())
    except ValueError as error:
        raise RunInvalid(f"the timeline cannot be used: {error}") from None
