"""Messages between an operator (the command line, the SDK) and the controller."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.impairment import LinkSpec
from orchestrator.protocol.messages.base import Message, Role, sent_by
from orchestrator.protocol.messages.timeline import TimelineChange
from orchestrator.protocol.schema import U32, U64, Json, Name

__all__ = [
    "Event",
    "Events",
    "GetEvents",
    "GetMeasurements",
    "GetStatus",
    "GroupStatus",
    "Heal",
    "LinkStatus",
    "NodeFault",
    "NodeStatus",
    "Partition",
    "ResetLinks",
    "RunEvent",
    "RunFinished",
    "RunStatus",
    "SaveResult",
    "SetLinkSpec",
    "SetLinkState",
    "StartRun",
    "Status",
    "StatusChanged",
    "StopRun",
    "TimelineChange",
    "TimelineDone",
    "WaitNodes",
    "WaitReady",
    "WatchRun",
]


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class GetStatus(Message):
    """Ask for a `Status`."""


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """A node as the controller sees it.

    `why` says what it still waits for, empty when ready; `prefixes` are the networks behind it, and `uplink`
    is whether it has a way to the outside.
    """

    id: U32
    name: str
    state: str
    address: str
    external: bool = False
    why: str = ""
    labels: dict[str, str] | None = None
    address6: str = ""
    prefixes: tuple[str, ...] = ()
    uplink: bool = False


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """A link, its state (`up`, `down`, `starting`), what it does in each direction now, and what carries it.

    `kind` is `memory`, `shared`, `unix` or `tcp`, and empty while the link is not up; `reason` says why it
    is not up, or not as it was set, where an end knows. `down` is the direction that was taken down by
    request: `forward` (a to b), `backward`, `both` or empty.
    """

    a: U32
    b: U32
    state: str
    forward: LinkSpec
    backward: LinkSpec
    kind: str = ""
    reason: str = ""
    down: str = ""


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """A group with its members and the edges of its trees by tree id."""

    group_id: U32
    group_ip: str
    src_node_id: U32
    label: str
    members: tuple[U32, ...]
    trees: dict[U32, tuple[tuple[U32, U32], ...]]


@dataclass(frozen=True, slots=True)
class RunStatus:
    """A run: `running`, `stopping`, `finished` or `failed`."""

    run: str
    scenario: str
    state: str
    reason: str = ""


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class Status(Message):
    """The lab as a whole; answers `GetStatus` and `WaitReady`.

    Attributes:
        re: The request.
        lab: Its name.
        state: `starting`, `ready` or `degraded`.
        incarnation: As in `Welcome`.
        health: `ok`, or `degraded` when the controller itself lacks something.
        problems: What it lacks, as sentences.
        nodes: In order of id.
        links: In order of their ends.
        groups: In order of id.
        runs: Those under way, and the last few that ended.
    """

    re: U32
    lab: str
    state: str
    incarnation: U64
    health: str
    problems: tuple[str, ...]
    nodes: tuple[NodeStatus, ...]
    links: tuple[LinkStatus, ...]
    groups: tuple[GroupStatus, ...]
    runs: tuple[RunStatus, ...]


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class WaitReady(Message):
    """Answer with a `Status` once the lab is ready, or with `lab.not-ready` after so long.

    Meanwhile `StatusChanged` tells how far it is, a few times a second at most.
    """

    timeout_ms: U32


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class StatusChanged(Message):
    """How many of the awaited nodes are ready, and the first that are not, each with what it lacks."""

    state: str
    ready: U32
    total: U32
    waiting: dict[U32, str]


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class StartRun(Message):
    """Start a scenario; acknowledged when its roles are on their way. The sender watches it from then on.

    The same id again attaches to the run that has it instead of starting another. `timeline` is what is done
    to links during the run, in order of time, and `traces` the contents of the traces that it names, by
    digest; `faults` says whether roles may change links. Both end with the
    run, and what they changed is reset then. `isolated` lists the roles that run in processes of their own.
    """

    run: Name
    scenario: str
    roles: dict[str, tuple[U32, ...]]
    files: dict[str, bytes]
    params: dict[str, Json]
    seed: U64
    timeout_s: float
    entry: str = "roles.py"
    timeline: tuple[TimelineChange, ...] | None = None
    faults: bool | None = None
    traces: dict[str, bytes] | None = None
    isolated: tuple[str, ...] | None = None


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class StopRun(Message):
    """Stop a run's roles; `RunFinished` follows."""

    run: Name
    reason: str = "stopped by the operator"


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class WatchRun(Message):
    """Send the run's events after this number, then the new ones, then `RunFinished`."""

    run: Name
    after: U64 = 0


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class TimelineDone(Message):
    """Say that a node fault that an event `timeline_node` asked for was made, or what was wrong.

    Attributes:
        run: The run.
        index: The number of the change in its timeline.
        error: What was wrong; empty for nothing.
    """

    run: Name
    index: U32
    error: str = ""


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class RunEvent(Message):
    """Something happened in a run.

    Attributes:
        run: The run.
        seq: Counts the run's events from 1; 0 for `progress`, which is not stored.
        time_ms: Since 1970.
        kind: `started`, `role_started`, `report`, `progress`, `log`, `barrier`, `role_finished`, `role_lost`,
            `stopping`, or of a timeline `timeline_planned`, `timeline_started`, `timeline_node`,
            `timeline_role`, `timeline_partition`, `timeline`, `timeline_reset`.
        node: The node, 0 when it concerns the run.
        role: The role, empty when it concerns the run.
        data: By kind: the row; `{done, total}`; `{level, text}`; `{name, generation}`;
            `{ok, error, traceback}`; `{reason}`.
    """

    run: str
    seq: U64
    time_ms: U64
    kind: str
    node: U32 = 0
    role: str = ""
    data: Json = None


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class RunFinished(Message):
    """A run ended.

    Attributes:
        run: The run.
        ok: Every role ended well.
        reason: Why not: the first failure, as a sentence; empty when ok.
        failures: Every role that did not end well: `{node, role, error, traceback}`. Of very many, the
            tracebacks of the first; a message has an end.
        unstored: Rows that roles had reported and that were not kept when the run ended; None for none.
    """

    run: str
    ok: bool
    reason: str = ""
    failures: tuple[dict[str, Json], ...] = ()
    unstored: U64 | None = None


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class SetLinkSpec(Message):
    """Change what a link does, from now on and after every restart; acknowledged when the nodes did it.

    The value of the `Ack` is `{forward, backward}`, what the link does now from a to b and back. A `reason`
    beside them says why it does not do that in one direction or both, such as that it is down.

    Attributes:
        a: One end.
        b: The other.
        direction: `forward` (a to b), `backward` or `both`.
        spec: The new impairments.
        merge: Lay `spec` over what is in force instead of replacing it.
        reset: Go back to what the topology declares; `spec` is ignored.
        cause: Who or what asked, for the history.
        backward: The new impairments from `b` to `a`, where they differ from `spec`.
    """

    a: U32
    b: U32
    direction: str = "both"
    spec: LinkSpec | None = None
    merge: bool = False
    reset: bool = False
    cause: str = "operator"
    backward: LinkSpec | None = None


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class SetLinkState(Message):
    """Take a link down, or up again; acknowledged when the nodes did it and routes were moved.

    The value of the `Ack` is `{state, down, reason}` of the link, as in `LinkStatus`. A link between groups
    of a partition stays down until it is healed.

    Attributes:
        a: One end.
        b: The other.
        down: Whether it shall be down.
        direction: `forward` (a to b), `backward` or `both`.
        cause: Who or what asked, for the history.
    """

    a: U32
    b: U32
    down: bool
    direction: str = "both"
    cause: str = "operator"


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class ResetLinks(Message):
    """Return all links to what the topology declares, and up; a partition stays.

    The value of the `Ack` is `{links}`, the ends of the links that were changed; of very many links only the
    first, with their number as `links_count`.
    """

    cause: str = "operator"


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class Partition(Message):
    """Take down all links between groups of nodes; a partition that is in force is replaced.

    The value of the `Ack` is `{down, up, connected}`: the ends of the links that went down and of those that
    came up, and groups that other nodes still connect, as pairs of places in `groups`. Of very many only the
    first are named, with their number as `down_count`, `up_count` or `connected_count`.

    Attributes:
        groups: Two or more, of nodes that are in no other; nodes in none keep their links.
        cause: Who or what asked, for the history.
    """

    groups: tuple[tuple[U32, ...], ...]
    cause: str = "operator"


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class Heal(Message):
    """End the partition; links that were taken down one by one stay down. The `Ack` is as for `Partition`."""

    cause: str = "operator"


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class NodeFault(Message):
    """Record what nodes shall be from now on: stopped, paused or running; nothing changes if one cannot.

    The sender then does it to their processes, or has it done with `act`. The links of a node that is to be
    stopped are removed at its neighbours at once, and routes avoid it.

    The value of the `Ack` is `{changed, already}`: the nodes for which this is a change, and the others.

    Attributes:
        nodes: Which ones; none is external.
        do: `kill`, `stop`, `start`, `pause` or `unpause`.
        cause: Who or what asked, for the history.
        act: Have it done to their processes, too, and answer when that is done; refused where the controller
            is not beside them.
    """

    nodes: tuple[U32, ...]
    do: str
    cause: str = "operator"
    act: bool | None = None


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class WaitNodes(Message):
    """Acknowledge once these nodes are what they shall be: ready, or gone.

    After so long the answer is the error `node.not-ready`, which names the first that is not and what it
    waits for. A node that shall be paused is not waited for.
    """

    nodes: tuple[U32, ...]
    timeout_ms: U32


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class GetEvents(Message):
    """Ask for the lab's events after a number, oldest first."""

    after: U64 = 0
    limit: U32 = 1000


@dataclass(frozen=True, slots=True)
class Event:
    """An entry of the lab's event log."""

    seq: U64
    time_ms: U64
    name: str
    node: U32 = 0
    detail: Json = None


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class Events(Message):
    """The events asked for; `more` when the limit cut them off."""

    re: U32
    events: tuple[Event, ...]
    more: bool = False


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class SaveResult(Message):
    """Keep a run's verdict and document; they survive the lab's nodes and the controller."""

    run: Name
    verdict: str
    document: Json


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class GetMeasurements(Message):
    """Send the `LinkMeasurements` of every node that answers in time; acknowledged behind the last one."""

    timeout_ms: U32
