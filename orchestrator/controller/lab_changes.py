"""Make the nodes, links, routes and flows of a running lab those of another controller file.

The operator writes the file before it asks, so that a controller that is started again has it as well. What
differs between the two files takes effect here; what is in both keeps its live changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.controller import restore
from orchestrator.controller.agent_handler import AgentHandler
from orchestrator.controller.core import Core, Session
from orchestrator.controller.errors import LabChangeInvalid, LinkNotApplied, RouteNotApplied
from orchestrator.controller.explicit_routes import OF_FILE, Identity
from orchestrator.controller.file_difference import Ends, FileDifference, settings_of
from orchestrator.controller.group_changes import change_member, delete_group, set_trees
from orchestrator.controller.link_changes import MAX_CAUSE, STORE_LIMIT, put_in_force, unchanged_route
from orchestrator.controller.node_handler import node_row
from orchestrator.controller.registry import Link, Node, Wanted, pair
from orchestrator.controller.route_changes import forget_pins
from orchestrator.controller.user_flows import UserFlows
from orchestrator.errors import StoreUnavailable
from orchestrator.protocol import Frame, Message
from orchestrator.protocol import messages as m
from orchestrator.settings.controller import ControllerSettings, NodeEntry
from orchestrator.store import RouteRow

__all__ = ["LabChanges"]

APPLY_LIMIT = 5.0
"""Seconds that nodes have to confirm that links were removed."""

DRAIN = 0.02
"""Seconds besides a link's delay that packets have to leave it; its queue is short when nothing is added."""

MAX_DRAIN = 2.0
"""The most that is waited for that: a longer delay loses packets, as a cable that is pulled does."""


@dataclass(frozen=True, slots=True)
class _Use:
    """Something of the running lab that a removed node or link is part of."""

    kind: str
    id: int | str
    what: str

    def as_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "id": self.id, "what": self.what}


class LabChanges:
    """Handles requests to change what the lab consists of, one after the other."""

    def __init__(self, core: Core, flows: UserFlows, agents: AgentHandler) -> None:
        self._core = core
        self._flows = flows
        self._agents = agents
        self._one = asyncio.Lock()
        self._draining: Session | None = None
        self.handlers: dict[type[Message], Callable[[Session, Frame, Any], Awaitable[None]]] = {
            m.ChangeLab: self._change_lab
        }

    async def _change_lab(self, session: Session, frame: Frame, message: m.ChangeLab) -> None:
        async with self._one:
            file = settings_of(message.settings)
            change = FileDifference.between(self._core.settings, file)
            new = [] if message.check or message.drain else await self._new_numbers(change)
            uses = list(self._uses(change))
            if message.drain and not message.check:
                self._draining = session
                await self._drain(change)
                if not session.alive:  # it may have left before it was heard
                    self.lost(session)
            elif not message.check:
                self._require_possible(change, uses, force=message.force)
                self._draining = None
                await self._apply(change, file, new, uses, message.cause[:MAX_CAUSE])
        value = {
            "added": [entry.node_id for entry in change.added],
            "removed": sorted(change.removed),
            "uses": [use.as_json() for use in uses],
        }
        session.connection.ack(frame, value)

    def lost(self, session: Session) -> None:
        """Route over drained links again where the operator left before the change that was to follow."""
        if session is self._draining:
            self._draining = None
            self._core.lab.avoid_no_more()
            self._core.events.add("lab.change-given-up", 0, {"cause": "operator"}, level="warning")
            self._core.pump()

    # Checks.

    def _require_possible(self, change: FileDifference, uses: Collection[_Use], *, force: bool) -> None:
        """Check that removed nodes are gone, and that nothing else needs them.

        Raises:
            LabChangeInvalid: One is there, or is needed.
        """
        registry = self._core.lab.registry
        for node in (registry.node(node_id) for node_id in sorted(change.removed) if node_id in registry):
            if node.external and node.peer is not None:
                text = f"node {node.id} is in use by a program of your own"
                raise LabChangeInvalid(text, id="node.in-use", hint="end that program first")
            if not node.external and (node.wanted is not Wanted.STOPPED or node.peer is not None):
                text = f"node {node.id} has to be stopped before it is removed"
                raise LabChangeInvalid(text, id="node.runs", hint=f"`nm node remove {node.id}` does both")
        for use in uses:
            if use.kind == "run" or not force:
                hint = "stop the run first" if use.kind == "run" else "`--force` removes that as well"
                raise LabChangeInvalid(f"something is in use: {use.what}", id="lab.in-use", hint=hint)

    def _uses(self, change: FileDifference) -> Iterator[_Use]:
        """Return what of the running lab removed nodes and links are part of."""
        lab, gone = self._core.lab, change.removed
        cut = {ends for ends, link in change.links.items() if link is None}
        for group in lab.groups:
            name = f"group {group.id} `{group.label}`"
            if group.source in gone:
                yield _Use("group", group.id, f"{name} has its source in node {group.source}")
                continue
            for node_id in sorted(group.members & gone):
                what = f"node {node_id} is a member of {name}"
                yield _Use("member", f"{group.id}/{node_id}", what)
            for tree in group.trees:
                if _crosses(tree.edges, gone, cut):
                    what = f"tree {tree.tree_id} of {name} leads over what is removed"
                    yield _Use("tree", f"{group.id}/{tree.tree_id}", what)
        declared = {lab.explicit.of_file.get(route) for route in change.routes}
        for route in lab.explicit.rows.values():
            ends = {route.src, route.dst}
            # What an operator or SQL made of a route of the file does not follow the file.
            follows = route.route_id in declared and route.origin in OF_FILE
            if not follows and (ends & gone or _crosses(route.edges, gone, cut)):
                what = f"route {route.route_id} from node {route.src} to node {route.dst}"
                yield _Use("route", route.route_id, f"{what} leads over what is removed")
        for flow in self._flows.open_of(gone):
            if not (flow.origin == "file" and change.flows):
                what = f"flow {flow.flow_id} from node {flow.src} to node {flow.dst} has not ended"
                yield _Use("flow", flow.flow_id, what)
        for run in self._agents.runs:
            for node_id in sorted(gone & run.roles.keys()):
                if not run.over:
                    yield _Use("run", run.id, f"node {node_id} plays a role in the run {run.id}")

    # Changes.

    async def _apply(
        self,
        change: FileDifference,
        file: ControllerSettings,
        new: Collection[int],
        uses: Collection[_Use],
        cause: str,
    ) -> None:
        core, lab, store = self._core, self._core.lab, self._core.store.lab
        flows = [use.id for use in uses if use.kind == "flow" and isinstance(use.id, int)]
        if flows:
            await self._flows.remove(flows)
        self._remove_uses(uses, cause)
        core.settings = file
        gone, routes = self._routes(change, new)
        await self._add_before(routes)
        lab.change_routes(dict.fromkeys(gone))  # before links, for nodes on their ways may go
        removed = {
            ends: None for ends in lab.registry.links if ends in change.links and change.links[ends] is None
        }
        # With a node go links that were added to it by SQL.
        removed |= {ends: None for ends in lab.registry.links if not change.removed.isdisjoint(ends)}
        lab.change_links(removed)
        store.drop_links(removed)
        self._remove_nodes([node_id for node_id in sorted(change.removed) if node_id in lab.registry], cause)
        self._add_nodes([e for e in change.added if e.node_id not in lab.registry], cause)
        for node_id, labels in change.labels.items():
            lab.registry.node(node_id).labels = labels
        store.save_nodes([node_row(lab.registry.node(node_id)) for node_id in change.labels])
        changed = self._change_links(change)
        lab.avoid_no_more()  # links that were drained for a change that failed
        self._change_routes(gone, routes, cause)
        for ends in removed:
            core.events.add("link.removed", 0, {"a": ends[0], "b": ends[1], "cause": cause})
        for ends in sorted(change.new_links):
            core.events.add("link.added", 0, {"a": ends[0], "b": ends[1], "cause": cause})
        core.pump()
        await self._wait_stored()
        if change.flows:
            await self._flows.file_changed()
        await self._wait_routes([*gone, *routes])
        await self._wait_removed(removed)
        await put_in_force(core, changed, state=True)

    async def _drain(self, change: FileDifference) -> None:
        """Route around links and nodes that are to go, and wait until packets under way have left them."""
        core, registry = self._core, self._core.lab.registry
        links = [
            link
            for ends, link in registry.links.items()
            if (ends in change.links and change.links[ends] is None) or not change.removed.isdisjoint(ends)
        ]
        if not links:
            return
        core.lab.avoid(links)
        core.pump()
        await core.wait_until(self._routed, APPLY_LIMIT)  # a node that hangs does not keep the rest
        longest_us = max(link.spec_from(end).delay_us or 0 for link in links for end in (link.a, link.b))
        await asyncio.sleep(min(MAX_DRAIN, longest_us / 1e6 + DRAIN))

    def _routed(self) -> bool:
        """Tell whether all nodes that answer have confirmed their routes."""
        lab = self._core.lab
        there = [node for node in lab.registry if node.peer is not None and node.wanted is Wanted.RUNNING]
        return not (lab.has_changes or lab.explicit.changing) and all(
            node.sent_state.routes_confirmed == lab.wanted_routes_version(node.id) for node in there
        )

    def _remove_uses(self, uses: Collection[_Use], cause: str) -> None:
        core = self._core
        routes = [use.id for use in uses if use.kind == "route" and isinstance(use.id, int)]
        core.lab.change_routes(dict.fromkeys(routes))
        core.store.lab.drop_routes(routes)
        forget_pins(core, cause)
        for use in uses:
            group_id, _, part = str(use.id).partition("/")
            if use.kind == "group":
                delete_group(core, int(group_id), cause)
            elif use.kind == "member":
                change_member(core, int(group_id), int(part), joined=False, cause=cause)
            elif use.kind == "tree":
                group = core.lab.groups.group(int(group_id))
                kept = [tree for tree in group.trees if tree.tree_id != int(part)]
                set_trees(core, group.id, kept, group.source, cause)

    def _remove_nodes(self, node_ids: Collection[int], cause: str) -> None:
        core = self._core
        for node_id in node_ids:
            core.lab.remove_node(node_id)
            core.forget_node(node_id)
            core.events.add("node.removed", node_id, {"cause": cause})
        core.store.lab.drop_nodes(node_ids)

    def _add_nodes(self, entries: Collection[NodeEntry], cause: str) -> None:
        core = self._core
        nodes: list[Node] = [restore.declared_node(entry) for entry in entries]
        for node in nodes:
            core.lab.add_node(node)
            core.events.add("node.added", node.id, {"name": node.name, "cause": cause})
        core.store.lab.save_nodes([node_row(node) for node in nodes])

    def _change_links(self, change: FileDifference) -> list[Link]:
        """Put in links that are new or others; return them."""
        core, registry = self._core, self._core.lab.registry
        wanted = {ends: link for ends, link in change.links.items() if link is not None}
        core.store.lab.declare_links_again(wanted)
        core.lab.change_links(wanted)
        for ends, link in wanted.items():
            kept = registry.links[ends]  # which keeps what was declared down before
            kept.forward_down_declared = link.forward_down
            kept.backward_down_declared = link.backward_down
        return [registry.links[ends] for ends in wanted]

    async def _add_before(self, routes: Mapping[int, RouteRow]) -> None:
        """Put in force what leads over links that there are, before the routes go that it may replace."""
        core, links = self._core, self._core.lab.registry.links
        possible = {
            number: row for number, row in routes.items() if all(pair(*edge) in links for edge in row.edges)
        }
        if possible:
            core.lab.change_routes(possible)
            core.pump()
            # A node that hangs does not keep the rest; it is named at the end.
            await core.wait_until(lambda: not unchanged_route(core, possible), APPLY_LIMIT)

    async def _new_numbers(self, change: FileDifference) -> list[int]:
        """Return numbers for the routes of the file that have none.

        Raises:
            StoreUnavailable: Postgres does not answer; nothing is changed then.
        """
        return await self._core.store.new_routes(len(self._unnumbered(change)))

    def _unnumbered(self, change: FileDifference) -> list[Identity]:
        known = self._core.lab.explicit.of_file
        return [route for route, entry in change.routes.items() if entry is not None and route not in known]

    def _routes(self, change: FileDifference, new: Collection[int]) -> tuple[list[int], dict[int, RouteRow]]:
        """Return the numbers of routes that go, and those that are new or others.

        What an operator or SQL made of a route of the file stays, whatever the file says of it.
        """
        explicit = self._core.lab.explicit
        stated = {number for number, row in explicit.rows.items() if row.origin not in OF_FILE}
        numbers = {**explicit.of_file, **dict(zip(self._unnumbered(change), new, strict=True))}
        entries = {numbers[route]: entry for route, entry in change.routes.items()}
        gone = [n for n, entry in entries.items() if entry is None and n in explicit.rows and n not in stated]
        others = {
            number: restore.route_row(number, entry)
            for number, entry in entries.items()
            if entry is not None and number not in stated
        }
        left = [numbers.pop(route) for route, entry in change.routes.items() if entry is None]
        explicit.of_file = numbers
        self._core.store.lab.drop_file_routes(left)
        return gone, others

    def _change_routes(self, gone: Collection[int], routes: Mapping[int, RouteRow], cause: str) -> None:
        core = self._core
        core.lab.change_routes(routes)
        core.store.lab.drop_routes(gone)
        core.store.lab.save_routes(routes.values())
        core.store.lab.save_file_routes(routes.values())
        forget_pins(core, cause)

    # Waiting.

    async def _wait_stored(self) -> None:
        if not await self._core.store.stored(STORE_LIMIT):
            raise StoreUnavailable(
                f"the lab was changed, but Postgres has not taken it in {STORE_LIMIT:g} s",
                id="lab.not-stored",
                hint="it is kept when Postgres is back; a controller that is started anew reads the file",
            )

    async def _wait_routes(self, routes: Collection[int]) -> None:
        """Wait until nodes have confirmed changes of routes.

        Raises:
            RouteNotApplied: One has not in time.
        """
        core = self._core
        if not await core.wait_until(lambda: not unchanged_route(core, routes), APPLY_LIMIT):
            text = f"the lab was changed, but {unchanged_route(core, routes) or 'not in time'}"
            raise RouteNotApplied(text, hint="it will be applied when the node answers")

    async def _wait_removed(self, removed: Collection[Ends]) -> None:
        """Wait until the ends of removed links that are there have confirmed it.

        Raises:
            LinkNotApplied: One has not in time.
        """
        registry = self._core.lab.registry

        def missing() -> str:
            for here, there in (each for a, b in removed for each in ((a, b), (b, a))):
                node = registry.node(here) if here in registry else None
                answers = node is not None and node.peer is not None and node.wanted is Wanted.RUNNING
                if node is not None and answers and there in node.sent_state.removing:
                    return f"node {here} has not confirmed that its link to {there} is gone"
            return ""

        if not await self._core.wait_until(lambda: not missing(), APPLY_LIMIT):
            text = f"the lab was changed, but {missing() or 'not in time'}"
            raise LinkNotApplied(text, hint="it will be applied when the node answers")


def _crosses(edges: Collection[Ends], nodes: Collection[int], links: Collection[Ends]) -> bool:
    return any(a in nodes or b in nodes or pair(a, b) in links for a, b in edges)
