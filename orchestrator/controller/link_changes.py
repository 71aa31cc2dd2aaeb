"""Put a change of links in force: send it, wait until the nodes have applied it, and store it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

from orchestrator.controller import link_states
from orchestrator.controller.core import Core
from orchestrator.controller.errors import LinkNotApplied, LinkNotStored, LinkUnknown
from orchestrator.controller.registry import Link, Node, Wanted, link_row_key
from orchestrator.impairment import PLAIN, Impossible, LinkSpec, check_traces
from orchestrator.protocol.messages import SetLinkSpec
from orchestrator.store import LinkRow

__all__ = [
    "MAX_CAUSE",
    "STORE_LIMIT",
    "check_traces_fit",
    "link_row",
    "put_in_force",
    "routes_versions",
    "set_link_spec",
    "starts_of",
    "unchanged_route",
    "unnoticed",
    "unrouted_node",
]

APPLY_LIMIT = 5.0
"""Seconds that nodes have to confirm a change of their link."""

STORE_LIMIT = 5.0
"""Seconds that Postgres has to store a command before the operator gets an error."""

MAX_CAUSE = 100
"""Characters of the cause of a change that its event keeps."""


class Directed(Protocol):
    """A message about one direction of a link, or both."""

    @property
    def a(self) -> int:
        """One end."""

    @property
    def b(self) -> int:
        """The other."""

    @property
    def direction(self) -> str:
        """`forward` (a to b), `backward` or `both`."""


def starts_of(message: Directed) -> list[int]:
    """Return the ends from which the packets come that a message is about.

    Raises:
        LinkUnknown: The direction has another name.
    """
    starts = {"forward": [message.a], "backward": [message.b], "both": [message.a, message.b]}
    if message.direction not in starts:
        raise LinkUnknown("a direction is `forward`, `backward` or `both`", id="link.direction")
    return starts[message.direction]


def unnoticed() -> None:
    """Do nothing when a change has been applied."""


async def set_link_spec(
    core: Core, message: SetLinkSpec, applied: Callable[[], None] = unnoticed
) -> dict[str, Any]:
    """Change what a link does; return what is in force afterwards, by direction.

    Raises:
        LinkUnknown: There is no such link, the request states nothing, or no link can do that.
        LinkNotApplied: See `put_in_force`.
        LinkNotStored: See `put_in_force`.
    """
    lab = core.lab
    link = lab.registry.link(message.a, message.b)
    starts = starts_of(message)
    if message.spec is None and not message.reset:
        raise LinkUnknown("a change of a link needs a specification, or `reset`", id="link.nothing")
    was = link.down
    wanted: dict[int, LinkSpec | None] = {}
    for end in starts:
        spec = message.spec
        if end == message.b and message.backward is not None:
            spec = message.backward
        if message.reset:
            spec = None
        if spec is not None:
            spec = spec.over(link.spec_from(end) if message.merge else PLAIN)
        try:
            (spec or PLAIN).check()
        except Impossible as error:
            raise LinkUnknown(
                f"the link {link.a}–{link.b} cannot do that: {error}", id="link.value", hint=error.hint
            ) from None
        wanted[end] = spec
    check_traces_fit(core, link, wanted)
    for end, spec in wanted.items():
        lab.set_link(link.a, link.b, spec, to_end=link.b if end == link.a else link.a)
    in_force = {
        "forward": link.spec_from(message.a).to_wire(),
        "backward": link.spec_from(message.b).to_wire(),
    }
    told = {side: _brief(spec) for side, spec in in_force.items()}
    facts = {"a": message.a, "b": message.b, **told, "cause": message.cause[:MAX_CAUSE]}
    core.events.add("link.changed", 0, facts)
    await put_in_force(core, [link], state=link.down != was, applied=applied)
    reason = link_states.reason_of(lab.registry, link)
    return {**in_force, **({"reason": reason} if reason else {})}


def check_traces_fit(core: Core, changed: Link, wanted: Mapping[int, LinkSpec | None]) -> None:
    """Refuse a change with a trace that would be too much for all links together.

    Raises:
        LinkUnknown: It would (`link.traces`).
    """
    new = [spec for spec in wanted.values() if spec is not None and spec.trace_data]
    kept = [
        link.spec_from(end)
        for link in core.lab.registry.links.values()
        for end in (link.a, link.b)
        if link is not changed or end not in wanted
    ]
    try:
        check_traces([*new, *kept] if new else ())
    except ValueError as error:
        raise LinkUnknown(str(error), id="link.traces", hint="end the traces of other links") from None


async def put_in_force(
    core: Core,
    links: Collection[Link],
    *,
    state: bool = False,
    applied: Callable[[], None] = unnoticed,
) -> None:
    """Send nodes what changed of their links, wait until they have applied it, and store it.

    Args:
        core: The controller.
        links: The links, changed.
        state: Wait as well until links that are not taken down are up, and nodes have confirmed the routes
            that this changes. Other nodes are not waited for: one that hangs would make every change fail.
        applied: Called when the nodes have confirmed it, before it is stored.

    Raises:
        LinkNotApplied: A node has not confirmed it in time.
        LinkNotStored: Postgres has not taken it.
    """
    if not links:
        return
    refused: list[str] = []
    for link in links:
        core.lab.problems.pop(link_row_key(link.a, link.b), None)  # the row is written again
    core.store.lab.save_links([link_row(link) for link in links], refused.append)
    before, changing = routes_versions(core), set(core.lab.explicit.changing)
    core.pump()
    pending = list(links)

    def unrouted() -> str:
        # Routes change once more when links have come up.
        now = routes_versions(core).items()
        late = unrouted_node(core, [node_id for node_id, version in now if before.get(node_id) != version])
        return late or unchanged_route(core, set(core.lab.explicit.changing) - changing)

    def in_force() -> bool:
        # What was once in force is not looked at again: there may be very many links.
        while pending and not _missing(core, pending[-1], state):
            pending.pop()
        return not pending and not (state and (core.lab.has_changes or unrouted()))

    what = _words(links)
    if not await core.wait_until(in_force, APPLY_LIMIT):
        missing = _missing(core, pending[-1], state) if pending else unrouted()
        raise LinkNotApplied(
            f"{what} changed, but {missing or 'not in time'}",
            hint="it will be applied when the node answers",
        )
    applied()
    in_time = await core.store.stored(STORE_LIMIT)
    if refused:
        raise LinkNotStored(f"{what} changed, but not stored: {refused[0]}")
    if not in_time:
        raise LinkNotStored(
            f"{what} changed, but Postgres has not taken it in {STORE_LIMIT:g} s",
            hint="it is kept when Postgres is back, and lost if the controller ends before",
        )


def link_row(link: Link) -> LinkRow:
    """Return a link as the store keeps it."""
    return LinkRow(
        link.a,
        link.b,
        link.forward,
        link.backward,
        link.forward_now,
        link.backward_now,
        link.origin,
        link.forward_down,
        link.backward_down,
        link.partitioned,
    )


def _words(links: Collection[Link]) -> str:
    first = next(iter(links), None)
    if first is not None and len(links) == 1:
        return f"the link {first.a}–{first.b} was"
    return f"{len(links)} links were"


def _missing(core: Core, link: Link, state: bool) -> str:
    """Return what a link lacks to be as it should be at the ends that are there; empty if nothing."""
    registry = core.lab.registry
    if (link.a, link.b) not in registry.links:
        return ""  # it was removed meanwhile
    late = []
    for here, there in ((link.a, link.b), (link.b, link.a)):
        node = registry.node(here)
        sent = node.sent_state.links.get(there)
        unconfirmed = sent is not None and node.sent_state.links_confirmed.get(there) != sent[1]
        if _answers(node) and (unconfirmed or there in node.sent_state.removing):
            late.append(str(here))
    if late:
        return f"node {' and '.join(late)} has not confirmed it"
    a, b = registry.node(link.a), registry.node(link.b)
    if state and registry.exists(link) and _answers(a) and _answers(b):
        up = b.id in a.links_up and a.id in b.links_up
        return "" if up else f"the link {link.a}–{link.b} is not up yet"
    return ""


def _answers(node: Node) -> bool:
    """Tell whether a node can be waited for: it is there, and neither stopped nor paused by request."""
    return node.peer is not None and node.wanted is Wanted.RUNNING


def routes_versions(core: Core) -> dict[int, int | None]:
    """Return the versions of the routes that nodes should have."""
    return {node.id: core.lab.wanted_routes_version(node.id) for node in core.lab.registry}


def unrouted_node(core: Core, node_ids: Collection[int]) -> str:
    """Return which of these nodes, if it is there, has not confirmed its routes, and why; empty if none."""
    for node_id in node_ids:
        node = core.lab.registry.node(node_id)
        confirmed = node.sent_state.routes_confirmed
        # None after a refusal: the node is then believed to have no routes.
        installed = confirmed is not None and confirmed == core.lab.wanted_routes_version(node_id)
        if _answers(node) and not installed:
            problem = node.problems.get("InstallRoutes")
            return f"node {node_id} has not confirmed its routes" + (f": {problem}" if problem else "")
    return ""


def unchanged_route(core: Core, route_ids: Collection[int]) -> str:
    """Return which of these routes waits for its nodes to confirm a change, and for whom; empty if none."""
    for route_id in route_ids:
        awaited = core.lab.explicit.awaited_by(route_id)
        if awaited is not None:
            late = unrouted_node(core, sorted(awaited)) or "its nodes are being sent the change"
            return f"route {route_id} waits until its nodes have confirmed the change, and {late}"
    return ""


def _brief(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a link as an event keeps them: of long lists and maps, only how long they are."""
    return {
        name: {"count": len(value)} if isinstance(value, list | dict) and len(value) > 16 else value
        for name, value in spec.items()
    }
