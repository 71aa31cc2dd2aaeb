"""Which verb and path of the REST API is which message of an operator, and what its answer holds.

A new noun is a row in `ROUTES` over a message that a handler of the controller answers; see
`docs/how-to/develop.md`. Parameters of the path, of the query and of the body are fields of the message with
the same names, and are checked as the message's fields are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.controller.rest import answers
from orchestrator.controller.rest.answers import ACK, Answer, acknowledged, of_status
from orchestrator.protocol import Message
from orchestrator.protocol import messages as m
from orchestrator.protocol.schema import U32, Name

__all__ = ["CAUSE", "METRICS", "PREFIX", "ROUTES", "STREAM", "Route"]

PREFIX = "/api/v1"
"""What every path of the API begins with."""

STREAM = f"{PREFIX}/events/stream"
"""The websocket of events; `?after=N` continues behind event N."""

METRICS = "/metrics"
"""The path of the counters for Prometheus, which is not part of the API."""

CAUSE = "rest"
"""What events name as the cause of a change that was made here."""

ANSWER_S = 10.0
"""Seconds that the controller has for what it answers from memory or from Postgres."""

CHANGE_S = 15.0
"""Seconds for changes: up to 5 for the nodes to confirm them, and up to 5 for Postgres to store them."""

ACT_S = 70.0
"""Seconds for what is done to processes of nodes: what the controller allows for it, and some more."""

_WAYS = ("both", "forward", "backward")


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One verb on one path.

    Attributes:
        verb: `GET`, `PUT`, `PATCH`, `POST` or `DELETE`; all but `POST` may be repeated.
        path: Below `PREFIX`, with the parameters in braces.
        message: The message that is sent.
        summary: What it does, as a sentence.
        cli: The command that does the same; empty for none.
        sdk: The call of `orchestrator.Lab` that does the same; empty for none.
        answer: What is answered.
        query: Fields of the message that the query may set.
        body: Fields of the message that the body may set.
        required: Those of the body that have to be there, beside those that the message requires.
        words: The words that a field may be.
        fixed: Fields that the row sets itself.
        derived: Makes further fields from the parameters of the path.
        within: Seconds that the controller has.
    """

    verb: str
    path: str
    message: type[Message]
    summary: str
    cli: str = ""
    sdk: str = ""
    answer: Answer = ACK
    query: tuple[str, ...] = ()
    body: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    derived: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda params: {}
    within: float = ANSWER_S


def _status(path: str, kind: Any, make: Callable[..., Any], summary: str, cli: str, **params: Any) -> Route:
    """Return the row of something that is a part of the lab's status."""
    sdk = "Lab.status"
    answer = of_status(kind, make, **params)
    return Route(verb="GET", path=path, message=m.GetStatus, summary=summary, cli=cli, sdk=sdk, answer=answer)


def _change(verb: str, path: str, message: type[Message], summary: str, **more: Any) -> Route:
    """Return the row of a change."""
    more["fixed"] = {"cause": CAUSE, **more.get("fixed", {})}
    more.setdefault("within", CHANGE_S)
    return Route(verb=verb, path=path, message=message, summary=summary, **more)


_SETTINGS = {
    "answer": acknowledged(answers.LinkSettings),
    "words": {"direction": _WAYS},
}

ROUTES: tuple[Route, ...] = (
    _status("/lab", m.Status, lambda status: status, "The lab as a whole.", "nm status"),
    _status("/nodes", tuple[m.NodeStatus, ...], lambda status: status.nodes, "All nodes.", "nm status"),
    _status("/nodes/{node_id}", m.NodeStatus, answers.node, "One node.", "nm status", node_id=U32),
    _change(
        "PUT",
        "/nodes/{node_id}/wanted",
        m.NodeFault,
        "Make a node what it shall be: its links and the routes of the lab follow at once, and its process "
        "is ended, started, paused or resumed. Refused with docker, where the controller is in a container: "
        "`nm node` and `Lab.node(…)` do it there, on the machine of the lab.",
        cli="nm node kill|stop|start|pause|unpause",
        sdk="Lab.node(N).kill() …",
        body=("do",),
        words={"do": ("kill", "stop", "start", "pause", "unpause")},
        fixed={"act": True},
        derived=lambda params: {"nodes": [params["node_id"]]},
        within=ACT_S,
        answer=Answer(answers.NodesWanted, acknowledged(answers.NodesWanted).make, {"node_id": U32}),
    ),
    Route(
        verb="GET",
        path="/nodes/{node_id}/routes",
        message=m.GetRoutes,
        summary="The routes that a node should have.",
        answer=Answer(answers.NodeRoutes, answers.routes, {}),
    ),
    Route(
        verb="GET",
        path="/routes",
        message=m.GetExplicitRoutes,
        summary="The explicit routes of all pairs, or those from or to a node.",
        cli="nm route list",
        sdk="Lab.routes.list()",
        query=("src_node_id", "dst_node_id"),
        answer=acknowledged(tuple[answers.ExplicitRoute, ...]),
    ),
    _change(
        "POST",
        "/routes",
        m.AddRoute,
        "Add an explicit route of a pair, by `path` or by `edges`.",
        cli="nm route add PATH",
        sdk="Lab.routes.add([1, 2, 3])",
        body=("src_node_id", "dst_node_id", "path", "edges", "weight"),
        answer=acknowledged(answers.ExplicitRoute),
    ),
    _change(
        "PATCH",
        "/routes/{route_id}",
        m.ChangeRoute,
        "Change the weight of an explicit route, its path, or both.",
        cli="nm route set ROUTE",
        sdk="Lab.routes.set(ROUTE, weight=2)",
        body=("path", "edges", "weight"),
        answer=acknowledged(answers.ExplicitRoute),
    ),
    _change(
        "DELETE",
        "/routes/{route_id}",
        m.DeleteRoute,
        "Delete an explicit route with the pins to it.",
        cli="nm route del ROUTE",
        sdk="Lab.routes.remove(ROUTE)",
        answer=acknowledged(answers.ExplicitRoute),
    ),
    Route(
        verb="GET",
        path="/routes/flows",
        message=m.GetFlowRoutes,
        summary="The flows of a node, or of all, that take explicit routes, and which.",
        cli="nm route flows",
        sdk="Lab.routes.flows()",
        query=("node_id", "limit"),
        answer=acknowledged(answers.FlowRoutes),
    ),
    Route(
        verb="GET",
        path="/pins",
        message=m.GetPins,
        summary="The pins of flows to explicit routes.",
        cli="nm flow pins",
        sdk="Lab.routes.pins()",
        answer=acknowledged(tuple[m.Pin, ...]),
    ),
    _change(
        "POST",
        "/pins",
        m.AddPin,
        "Let flows of the pair of a route take this route; what is left out matches every value.",
        cli="nm flow pin ROUTE",
        sdk="Lab.routes.pin(ROUTE, …)",
        body=("route_id", "protocol", "src_port", "dst_port"),
        answer=acknowledged(m.Pin),
    ),
    _change(
        "DELETE",
        "/pins/{pin_id}",
        m.DeletePin,
        "Delete a pin; its flows are spread over the routes again.",
        cli="nm flow unpin PIN",
        sdk="Lab.routes.unpin(PIN)",
        answer=acknowledged(m.Pin),
    ),
    _status("/links", tuple[m.LinkStatus, ...], lambda status: status.links, "All links.", "nm link show"),
    _status("/links/{a}/{b}", m.LinkStatus, answers.link, "One link.", "nm link show A B", a=U32, b=U32),
    _change(
        "PATCH",
        "/links/{a}/{b}/settings",
        m.SetLinkSpec,
        "Change what a link does; what is not named stays as it is.",
        cli="nm link set A B --KEY VALUE",
        sdk="Lab.link(A, B).set(…)",
        body=("spec", "backward", "direction"),
        required=("spec",),
        fixed={"merge": True},
        **_SETTINGS,
    ),
    _change(
        "PUT",
        "/links/{a}/{b}/settings",
        m.SetLinkSpec,
        "Set what a link does; what is not named has no effect on packets any more.",
        cli="nm link set A B --profile NAME",
        sdk="Lab.link(A, B).set(profile=…)",
        body=("spec", "backward", "direction"),
        required=("spec",),
        **_SETTINGS,
    ),
    _change(
        "DELETE",
        "/links/{a}/{b}/settings",
        m.SetLinkSpec,
        "Return to what the topology declares for a link, and take it up where it was taken down.",
        cli="nm link reset A B",
        sdk="Lab.link(A, B).reset()",
        query=("direction",),
        fixed={"reset": True},
        **_SETTINGS,
    ),
    _change(
        "PUT",
        "/links/{a}/{b}/state",
        m.SetLinkState,
        "Take a link down, or up again.",
        cli="nm link down|up A B",
        sdk="Lab.link(A, B).down(), .up()",
        body=("down", "direction"),
        words={"direction": _WAYS},
        answer=acknowledged(answers.LinkState),
    ),
    _change(
        "DELETE",
        "/links/settings",
        m.ResetLinks,
        "Return all links to what the topology declares, and up; a partition stays.",
        cli="nm link reset",
        sdk="Lab.reset_links()",
        answer=acknowledged(answers.LinksReset),
    ),
    _change(
        "PUT",
        "/partition",
        m.Partition,
        "Take down all links between groups of nodes; a partition that is in force is replaced.",
        cli='nm partition "1,2|3,4"',
        sdk="Lab.partition([[1, 2], [3, 4]])",
        body=("groups",),
        answer=acknowledged(answers.LinksCut),
    ),
    _change(
        "DELETE",
        "/partition",
        m.Heal,
        "End the partition.",
        cli="nm heal",
        sdk="Lab.heal()",
        answer=acknowledged(answers.LinksCut),
    ),
    Route(
        verb="POST",
        path="/probes",
        message=m.StartProbe,
        summary="Measure one direction of a link with traffic of its own. The probe ends later; its number "
        "is answered.",
        cli="nm probe A B",
        sdk="Lab.link(A, B).probe()",
        body=("src", "dst", "below", "probe_bytes", "time_ms"),
        answer=acknowledged(answers.ProbeStarted),
    ),
    Route(
        verb="GET",
        path="/probes",
        message=m.GetProbes,
        summary="Probes of links after a number, in order.",
        sdk="Lab.probes(after=N)",
        query=("after", "limit"),
        answer=Answer(answers.ProbePage, answers.probes, {}),
    ),
    Route(
        verb="GET",
        path="/probes/{id}",
        message=m.GetProbe,
        summary="One probe, and what it measured once it has ended.",
        answer=Answer(m.ProbeStatus, lambda reply, frames, params: reply.probes[0], {}),
    ),
    _status("/groups", tuple[m.GroupStatus, ...], lambda status: status.groups, "All groups.", "nm inspect"),
    _status("/groups/{group_id}", m.GroupStatus, answers.group, "One group.", "nm inspect", group_id=U32),
    Route(
        verb="GET",
        path="/max-flows",
        message=m.GetMaxFlows,
        summary="TCP flows that nodes in max mode carry, the latest first.",
        cli="nm flow max",
        sdk="Lab.flows.list_max()",
        query=("running", "limit"),
        answer=Answer(answers.MaxFlowPage, answers.max_flows, {}),
    ),
    _status(
        "/runs",
        tuple[m.RunStatus, ...],
        lambda status: status.runs,
        "Runs under way, and the last few that ended.",
        "nm inspect",
    ),
    _status("/runs/{run}", m.RunStatus, answers.run, "One of these runs.", "nm inspect", run=Name),
    Route(
        verb="DELETE",
        path="/runs/{run}",
        message=m.StopRun,
        summary="Stop the roles of a run.",
    ),
    Route(
        verb="GET",
        path="/events",
        message=m.GetEvents,
        summary="Events of the lab after a number, oldest first.",
        cli="nm events --after N",
        sdk="Lab.events(after=N)",
        query=("after", "limit"),
        answer=Answer(answers.EventPage, answers.events, {}),
    ),
    Route(
        verb="GET",
        path="/metrics",
        message=m.GetMetrics,
        summary="The newest counters of all nodes, with rates.",
        cli="nm top -o json",
        sdk="Lab.metrics.snapshot()",
        answer=Answer(answers.LabMetrics, answers.lab_metrics, {}),
    ),
    Route(
        verb="GET",
        path="/metrics/{table}",
        message=m.GetMetricRows,
        summary="Rows that Postgres has: `links`, `flows`, `nodes`, `groups`, `sessions`, `app-flows`,"
        " `route-changes`.",
        cli="nm metrics export FILE --table TABLE",
        sdk="Lab.metrics.rows(TABLE)",
        query=("after", "since_ms", "limit"),
        answer=Answer(answers.MetricPage, answers.metric_page, {}),
    ),
    Route(
        verb="GET",
        path="/measurements",
        message=m.GetMeasurements,
        summary="What the nodes that answer within `timeout_ms` (at most 10000) measured of their links.",
        query=("timeout_ms",),
        answer=Answer(tuple[answers.NodeMeasurement, ...], answers.measurements, {}),
        within=CHANGE_S,
    ),
)
"""Every route; the OpenAPI document, the application and the reference page are made from it."""
