"""Errors with which the controller answers a request; the id is sent to the peer."""

from __future__ import annotations

from orchestrator.protocol import BadRequest, ProtocolError

__all__ = [
    "AgentMissing",
    "FlowInvalid",
    "FlowUnknown",
    "FlowsNotEnded",
    "GroupInvalid",
    "GroupLabelTaken",
    "GroupNotStored",
    "GroupUnknown",
    "LabChangeInvalid",
    "LabNotReady",
    "LinkNotApplied",
    "LinkNotStored",
    "LinkUnknown",
    "MetricsInvalid",
    "NodeFaultInvalid",
    "NodeNotActedOn",
    "NodeNotReady",
    "NodeNotStored",
    "NodeStopped",
    "NodeTaken",
    "NodeUnknown",
    "PartitionInvalid",
    "PinInvalid",
    "PinUnknown",
    "ProbeInvalid",
    "ProbeNotEnded",
    "ProbeRefused",
    "ProbeUnknown",
    "RouteInvalid",
    "RouteNotApplied",
    "RouteNotStored",
    "RouteUnknown",
    "RunInvalid",
    "RunUnknown",
    "TreeForbidden",
    "TreeInvalid",
]


class NodeUnknown(BadRequest):
    """The topology has no node of that number, or it has not registered."""

    id = "node.unknown"


class MetricsInvalid(BadRequest):
    """Metrics contradict themselves or the lab, or a table of metrics is asked for that is none."""

    id = "metrics.invalid"


class NodeTaken(ProtocolError):
    """Another process is that node, and lives."""

    id = "node.taken"


class NodeStopped(BadRequest):
    """A process registers as a node that is stopped by request."""

    id = "node.stopped"


class NodeFaultInvalid(BadRequest):
    """A node cannot be stopped, started, paused or resumed as it is."""

    id = "node.fault"


class NodeNotActedOn(ProtocolError):
    """What nodes shall be is recorded, but was not done to their processes."""

    id = "node.not-done"


class NodeNotReady(ProtocolError):
    """A node is not ready, or not gone, in time; the message says what it waits for."""

    id = "node.not-ready"


class NodeNotStored(ProtocolError):
    """Postgres has not stored what a node shall be."""

    id = "node.not-stored"


class LabChangeInvalid(BadRequest):
    """The lab cannot become what was asked for while it runs."""

    id = "lab.change"


class LabNotChanged(ProtocolError):
    """The program that adds and removes nodes and links has not done so; the id is that of its error."""

    id = "lab.not-changed"


class LinkUnknown(BadRequest):
    """There is no link between these nodes."""

    id = "link.unknown"


class FaultsNotAllowed(ProtocolError):
    """A role may not change links."""

    id = "run.faults"


class LinkNotStored(ProtocolError):
    """Nodes applied a change of a link, but Postgres has not stored it."""

    id = "link.not-stored"


class LinkNotApplied(ProtocolError):
    """A node has not confirmed a change of its link in time."""

    id = "link.not-applied"


class PartitionInvalid(BadRequest):
    """Groups of nodes that make no partition."""

    id = "partition.invalid"


class GroupUnknown(BadRequest):
    """There is no group of that number."""

    id = "group.unknown"


class GroupInvalid(BadRequest):
    """A row of a group, written by SQL, that no group can have."""

    id = "group.invalid"


class GroupLabelTaken(BadRequest):
    """Another node has a group of that name, or the name cannot be used."""

    id = "group.label-taken"


class GroupNotStored(ProtocolError):
    """Postgres has not taken a change of a group in time; it is lost if the controller ends first."""

    id = "group.not-stored"


class TreeForbidden(BadRequest):
    """Trees of a group are set by its source and its members; this node is neither."""

    id = "tree.forbidden"


class TreeInvalid(BadRequest):
    """Edges that make no tree from the source to the members."""

    id = "tree.invalid"


class RouteInvalid(BadRequest):
    """Edges that make no route, or a weight that is none (`route.weight`)."""

    id = "route.invalid"


class RouteUnknown(BadRequest):
    """There is no explicit route of that number."""

    id = "route.unknown"


class RouteNotApplied(ProtocolError):
    """A node has not confirmed a change of routes or pins in time."""

    id = "route.not-applied"


class RouteNotStored(ProtocolError):
    """Postgres has not taken a change of routes or pins in time; it is lost if the controller ends first."""

    id = "route.not-stored"


class PinUnknown(BadRequest):
    """There is no pin of that number."""

    id = "pin.unknown"


class PinInvalid(BadRequest):
    """A pin that no flow can match."""

    id = "pin.invalid"


class RunInvalid(BadRequest):
    """A run that cannot be started."""

    id = "run.invalid"


class FlowInvalid(BadRequest):
    """A user-space flow that cannot be started."""

    id = "flow.invalid"


class FlowUnknown(BadRequest):
    """There is no user-space flow of that number."""

    id = "flow.unknown"


class FlowsNotEnded(ProtocolError):
    """User-space flows have not ended in time."""

    id = "flow.not-ended"


class ProbeInvalid(BadRequest):
    """A probe whose bytes or time are out of bounds."""

    id = "probe.invalid"


class ProbeRefused(ProtocolError):
    """A link that cannot be probed as it is, or that too many probes wait for."""

    id = "probe.refused"


class ProbeUnknown(BadRequest):
    """There is no probe of that number."""

    id = "probe.unknown"


class ProbeNotEnded(ProtocolError):
    """A probe has not ended in time."""

    id = "probe.not-ended"


class AgentMissing(ProtocolError):
    """A node's agent, which runs its roles, is not connected; it was called for, and soon will be."""

    id = "run.no-agent"


class RunUnknown(BadRequest):
    """There is no run of that name."""

    id = "run.unknown"


class LabNotReady(ProtocolError):
    """Nodes are not ready in time; the message names them."""

    id = "lab.not-ready"
