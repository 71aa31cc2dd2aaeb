"""Messages between a node agent, which runs roles, and the controller.

What all roles of a run share travels once per agent (`PrepareRun`), what differs once per role (`RunRole`):
a thousand roles in one process must not carry the scenario a thousand times.

A reply to an agent that was away is idempotent: entering a barrier that was already released releases at
once, a finished role may be reported again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.protocol.messages.base import Message, Role, sent_by
from orchestrator.protocol.messages.timeline import TimelineChange
from orchestrator.protocol.schema import U32, U64, Json, Name, Row, Value

__all__ = [
    "AgentHello",
    "AgentTroubles",
    "BarrierEnter",
    "BarrierReleased",
    "ChangeLinks",
    "LinksChanged",
    "Lookup",
    "PrepareRun",
    "Publish",
    "Published",
    "RoleFinished",
    "RoleLog",
    "RoleProgress",
    "RoleReport",
    "RoleStarted",
    "RunRole",
    "RunningRole",
    "StopRole",
]


@dataclass(frozen=True, slots=True)
class RunningRole:
    """A role that an agent is running when it comes back."""

    run: Name
    node: U32


@sent_by(Role.AGENT)
@dataclass(frozen=True, slots=True)
class AgentHello(Message):
    """This process runs the roles of these nodes; sent first, and after every reconnect.

    Attributes:
        nodes: The nodes whose roles it takes.
        running: Roles that are under way here. A role that the controller believes to be here and that is
            not listed is lost, unless its `RoleFinished` follows.
        tokens: Each node's own token. That of the node which the connection's `Hello` named may be left out.
    """

    nodes: tuple[U32, ...]
    running: tuple[RunningRole, ...] = ()
    tokens: dict[U32, str] = field(default_factory=dict, repr=False)


@sent_by(Role.AGENT)
@dataclass(frozen=True, slots=True)
class AgentTroubles(Message):
    """What keeps nodes of this process from running roles as they should, all of it; none says that all is
    well.

    Attributes:
        troubles: What it is, as a sentence, by node.
    """

    troubles: dict[U32, str]


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class PrepareRun(Message):
    """What all roles of a run share; precedes their `RunRole`, once per agent.

    Attributes:
        run: The run's id.
        scenario: Its scenario's name.
        files: The scenario folder, relative path to content.
        entry: The file with the roles, such as `roles.py`.
        params: Parameters by name.
        seed: The run's seed.
        roles: Node ids by role, sorted.
        names: Node names by id, of all nodes in the lab.
        timeout_s: How long a role may take.
        isolated: The roles that run in processes of their own.
    """

    run: Name
    scenario: str
    files: dict[str, bytes]
    entry: str
    params: dict[str, Json]
    seed: U64
    roles: dict[str, tuple[U32, ...]]
    names: dict[U32, str]
    timeout_s: float
    isolated: tuple[str, ...] | None = None


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class RunRole(Message):
    """Start a role in a node; acknowledged when it is accepted, then `RoleStarted` follows."""

    run: Name
    node: U32
    role: Name


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class StopRole(Message):
    """Stop a role, or with node 0 all roles of the run here; `RoleFinished` follows for each."""

    run: Name
    node: U32
    reason: str


@sent_by(Role.AGENT)
@dataclass(frozen=True, slots=True)
class RoleStarted(Message):
    """A role's code is running."""

    run: Name
    node: U32
    role: Name


@sent_by(Role.AGENT)
@dataclass(frozen=True, slots=True)
class RoleReport(Message):
    """A row that a role reported; `seq` counts a role's rows from 1, so that one sent twice is kept once."""

    run: Name
    node: U32
    role: Name
    seq: U32
    row: Row


@sent_by(Role.AGENT)
@dataclass(frozen=True, slots=True)
class RoleProgress(Message):
    """How far a role is; passed on to the watching operators and not stored."""

    run: Name
    node: U32
    done: float
    total: float


@sent_by(Role.AGENT)
@dataclass(frozen=True, slots=True)
class RoleLog(Message):
    """A line that a role logged."""

    run: Name
    node: U32
    level: str
    text: str


@sent_by(Role.AGENT)
@dataclass(frozen=True, slots=True)
class RoleFinished(Message):
    """A role ended: well, or with an error and where it was raised.

    Attributes:
        rows: How many rows it has reported, so that none is missed in silence; None if it does not know.
    """

    run: Name
    node: U32
    role: Name
    ok: bool
    error: str | None = None
    traceback: str | None = None
    rows: U32 | None = None


@sent_by(Role.AGENT)
@dataclass(frozen=True, slots=True)
class BarrierEnter(Message):
    """A role waits at a barrier until every role that is still running has come there.

    Acknowledged when the barrier opens; an agent whose connection ends before sends it again.

    `generation` counts how often this role has entered a barrier of that name, from 1; it makes a repeated
    message after a reconnect harmless.
    """

    run: Name
    node: U32
    name: Name
    generation: U32


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class BarrierReleased(Message):
    """All are there; sent once per agent, and meant for all of its roles in this generation."""

    run: Name
    name: Name
    generation: U32


@sent_by(Role.AGENT)
@dataclass(frozen=True, slots=True)
class Publish(Message):
    """Make a value known under a key to all roles of the run; a second one replaces the first."""

    run: Name
    node: U32
    key: Name
    value: Value = None


@sent_by(Role.AGENT)
@dataclass(frozen=True, slots=True)
class Lookup(Message):
    """Ask for a key; `Published` comes, and the acknowledgement, when it is published.

    The asker keeps the time, and asks again when its connection ended before.
    """

    run: Name
    node: U32
    key: Name


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class Published(Message):
    """A key's value, for every role of this agent that asked for it."""

    run: Name
    key: Name
    value: Value = None


@sent_by(Role.AGENT)
@dataclass(frozen=True, slots=True)
class ChangeLinks(Message):
    """Change links for a role, whose scenario has to allow it; acknowledged with `LinksChanged`.

    Attributes:
        run: The run.
        node: The role's node.
        number: Counts what the role has asked for, from 1; repeated after a reconnect.
        change: What is changed, at once: its time means nothing.
    """

    run: Name
    node: U32
    number: U32
    change: TimelineChange


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class LinksChanged(Message):
    """What became of a `ChangeLinks`: the nodes have made the change, or an error says why not."""

    run: Name
    node: U32
    number: U32
    error: str = ""
    error_id: str = ""
