"""Apply what was changed by SQL: read it, validate it, send the difference, and undo what is refused.

The database refuses what it can know; here the rest is judged, by the functions that judge requests of nodes
and operators. A row that is refused takes no effect: it is written back as it was, or removed if it is new,
and `rejections` and an event say what was refused, why, and who wrote it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any

from orchestrator import log
from orchestrator.controller import restore
from orchestrator.controller.core import Core
from orchestrator.controller.errors import GroupInvalid, LinkUnknown, RouteInvalid, TreeInvalid
from orchestrator.controller.group_changes import tell_member
from orchestrator.controller.groups import Group, TreeSpec
from orchestrator.controller.link_changes import check_traces_fit, link_row
from orchestrator.controller.registry import Link, Wanted, link_row_key
from orchestrator.controller.routing import check_route, check_tree
from orchestrator.controller.sql_wanted import SqlWanted
from orchestrator.errors import NmError, StoreUnavailable
from orchestrator.store import (
    Changed,
    GroupRow,
    LinkRow,
    RouteRow,
    SqlChange,
    TreeRow,
    WantedRow,
    preload,
)
from orchestrator.tasks import spawn

__all__ = ["SqlChanges"]

_LOG = log.get("orchestrator.controller")

RETRY_S = 0.5
"""Seconds until changes are read again that could not be read while Postgres was away."""

PRELOAD_S = 5.0
"""Seconds after the start at which what reads words of links is imported: when most labs are ready. It takes
0.15 s, which the first change of a link by SQL would wait."""

CONFIRM_LIMIT = 30.0
"""Seconds that nodes have to confirm a change before it is recorded as not confirmed."""

MOST_SHOWN = 10
"""Keys of a statement that its event names."""

Key = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Refusal:
    """A row that is refused.

    Attributes:
        before: The row to which it is set back; None if it was not there.
    """

    table: str
    key: Key
    error: str
    reason: str
    before: LinkRow | RouteRow | GroupRow | TreeRow | WantedRow | None


class SqlChanges:
    """Reads and applies changes by SQL, one reading after the other."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._wanted = SqlWanted(core)
        self._task: asyncio.Task[None] | None = None
        self._again = False
        self._first = True  # what is in memory was read from these rows themselves, when the controller began
        self._confirming: set[asyncio.Task[None]] = set()
        self._retry: asyncio.TimerHandle | None = None
        self._preload = asyncio.get_running_loop().call_later(PRELOAD_S, self._load)

    def notified(self) -> None:
        """Read what was changed; a change that comes while that is done leads to one more reading."""
        self._again = True
        if self._task is None:
            self._task = spawn(self._run(), name="reader of changes by SQL")

    async def close(self) -> None:
        """End what is under way."""
        self._preload.cancel()
        if self._retry is not None:
            self._retry.cancel()
        tasks = [*self._confirming, *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._wanted.close()

    def _load(self) -> None:
        spawn(asyncio.to_thread(preload), name="import of what reads words of links")

    async def _run(self) -> None:
        try:
            while self._again:
                self._again = False
                try:
                    if not await self._take():
                        self._later()
                except StoreUnavailable as error:
                    _LOG.debug("changes by sql not read", reason=error.message)
                    self._later()
                except NmError as error:
                    _LOG.error("changes by sql not applied", reason=error.message)
        finally:
            self._task = None

    def _later(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
        self._retry = asyncio.get_running_loop().call_later(RETRY_S, self.notified)

    async def _take(self) -> bool:
        """Apply what waits; return False if Postgres is away."""
        store = self._core.store
        while True:
            # What we decide ourselves while we read would not be in what we read, and be undone.
            decided = store.lab.changes
            if not await store.flushed():
                return False
            changed = await store.sql_changes()
            if store.lab.changes == decided:
                break
        if changed.changes:
            self._apply(changed)
            self._again |= changed.cut
        self._first = changed.cut and self._first
        return True

    def _apply(self, changed: Changed) -> None:
        core = self._core
        refusals = [*self._links(changed), *self._routes(changed), *self._groups(changed)]
        for node_id, error, reason, row in self._wanted.take(changed, first=self._first):
            refusals.append(_Refusal("nodes", (node_id,), error, reason, row))
        self._pins(changed)
        if core.lab.has_changes:
            core.pump()
        for change in changed.changes:
            facts = {"table": change.table, "operation": change.operation, "rows": len(change.keys)}
            keys = [list(key) for key in change.keys[:MOST_SHOWN]]
            core.events.add("sql.changed", 0, {**facts, "keys": keys, **_cause(change)})
        causes = changed.causes() if refusals else {}
        for refusal in refusals:
            where = (refusal.table, refusal.key)
            if where in changed.versions:  # otherwise it was removed meanwhile, which is read next
                self._refuse(refusal, changed.versions[where], causes[where])
        core.store.sql.applied(changed.changes)
        self._confirm(changed.changes)

    def _refuse(self, refusal: _Refusal, version: str, change: SqlChange) -> None:
        core = self._core
        row = (refusal.table, refusal.key, version)
        core.store.sql.rejected(*row, change, refusal.error, refusal.reason)
        core.store.sql.undo(*row, refusal.before)
        where = {"table": refusal.table, "key": list(refusal.key)}
        facts = {**where, "reason": refusal.reason, "error": refusal.error, **_cause(change)}
        core.events.add("sql.rejected", 0, facts, level="warning")

    def _confirm(self, changes: tuple[SqlChange, ...]) -> None:
        """Record that nodes have confirmed what was sent to them, once they have."""
        core = self._core
        sent = [node_id for node_id, count in core.unanswered.items() if count > 0]
        routes = {key[0] for change in changes if change.table == "routes" for key in change.keys}

        def answered() -> bool:
            if not routes.isdisjoint(core.lab.explicit.changing):
                return False
            registry = core.lab.registry
            waited = (registry.node(node_id) for node_id in sent if node_id in registry)
            return not any(core.unanswered[node.id] for node in waited if node.wanted is Wanted.RUNNING)

        async def wait() -> None:
            if await core.wait_until(answered, CONFIRM_LIMIT):
                core.store.sql.confirmed(changes)

        task = spawn(wait(), name="confirmation of changes by SQL")
        self._confirming.add(task)
        task.add_done_callback(self._confirming.discard)

    # Links.

    def _links(self, changed: Changed) -> list[_Refusal]:
        core = self._core
        refusals: list[_Refusal] = []
        wanted: dict[tuple[int, int], Link | None] = {}
        for a, b in changed.keys("links"):
            row, old = changed.links.get((a, b)), core.lab.registry.links.get((a, b))
            core.lab.problems.pop(link_row_key(a, b), None)
            if row is None:
                wanted[a, b] = None
                continue
            link = restore.link_from(row)
            reason = row.refusal or self._unfit(link, old)
            if reason:
                before = link_row(old) if old else None
                refusals.append(_Refusal("links", (a, b), "link.value", reason, before))
                continue
            wanted[a, b] = link
            version = changed.versions.get(("links", (a, b)))
            if row.in_words and version is not None:
                core.store.sql.undo("links", (a, b), version, link_row(link))  # as fields, from now on
        core.lab.change_links(wanted)
        return refusals

    def _unfit(self, link: Link, old: Link | None) -> str:
        """Return why a link cannot be added to the lab; empty if it can."""
        registry = self._core.lab.registry
        for end in (link.a, link.b):
            if end not in registry:
                return f"there is no node {end} in this lab"
        specs = {link.a: link.spec_from(link.a), link.b: link.spec_from(link.b)}
        try:
            check_traces_fit(self._core, old or link, specs)
        except LinkUnknown as error:
            return error.message
        return ""

    # Routes.

    def _routes(self, changed: Changed) -> list[_Refusal]:
        lab = self._core.lab
        refusals: list[_Refusal] = []
        wanted: dict[int, RouteRow | None] = {}
        for (route_id,) in changed.keys("routes"):
            row = changed.routes.get((route_id,))
            if row is not None:
                try:
                    check_route(row.src, row.dst, row.edges, lab.registry.links)
                except RouteInvalid as error:
                    before = None if self._first else lab.explicit.rows.get(route_id)
                    refusals.append(_Refusal("routes", (route_id,), error.id, error.message, before))
                    row = before
            wanted[route_id] = row
        lab.change_routes(wanted)
        return refusals

    def _pins(self, changed: Changed) -> None:
        """Take pins as they are: the database has judged them. With a route that was refused go its pins."""
        lab = self._core.lab
        wanted = {key[0]: changed.pins.get(key) for key in changed.keys("flow_pins")}
        known = lab.explicit.rows
        lab.change_pins({pin: row if row and row.route_id in known else None for pin, row in wanted.items()})

    # Groups.

    def _groups(self, changed: Changed) -> list[_Refusal]:
        refusals: list[_Refusal] = []
        tables = ("groups", "group_members", "group_trees")
        trees = set(changed.keys("group_trees"))
        for group_id in dict.fromkeys(key[0] for key in changed.keys(*tables)):
            refusals += self._group(group_id, changed.groups.get((group_id,)), trees)
        return refusals

    def _group(self, group_id: int, row: GroupRow | None, changed_trees: set[Key]) -> list[_Refusal]:
        """Make a group what its rows say; return the rows that are refused."""
        core, groups = self._core, self._core.lab.groups
        old = groups.group(group_id) if group_id in groups else None
        core.lab.problems.pop(restore.group_row_key(group_id), None)
        if row is None:
            groups.drop(group_id)
            self._put(old, None)
            return []
        refusals: list[_Refusal] = []
        if reason := self._group_refusal(row, old):
            before = GroupRow(old.id, old.label, old.source, old.ip) if old else None
            refusals.append(_Refusal("groups", (group_id,), GroupInvalid.id, reason, before))
            if before is None:
                return refusals  # with the row go those of its members and trees
            row = replace(row, label=before.label, src_node_id=before.src_node_id, group_ip=before.group_ip)
        new = restore.group_from(row, groups, core.lab.registry)
        known = {tree.tree_id: tree for tree in old.trees} if old and not self._first else {}
        kept: list[TreeSpec] = []
        for tree in new.trees:
            key = (group_id, tree.tree_id)
            try:
                if key in changed_trees:
                    check_tree(new.source, tree.edges, new.members, core.lab.registry.links)
                kept.append(tree)
            except TreeInvalid as error:
                last = known.get(tree.tree_id)
                kept += [last] if last else []
                before_tree = TreeRow(last.tree_id, last.edges, last.weight) if last else None
                refusals.append(_Refusal("group_trees", key, error.id, error.message, before_tree))
        new.trees = tuple(kept)
        if old is None or (old.entry, old.members, old.trees) != (new.entry, new.members, new.trees):
            groups.add(new)
            self._put(old, new)
        if row.group_ip is None:
            core.store.lab.give_address(group_id, new.ip)
        return refusals

    def _group_refusal(self, row: GroupRow, old: Group | None) -> str:
        """Return why the row of a group is refused; empty if it is not."""
        lab = self._core.lab
        reason = lab.groups.refusal(row.group_id, row.label, row.group_ip)
        if reason:
            return reason
        if row.src_node_id not in lab.registry:
            return f"there is no node {row.src_node_id} in this lab"
        if old is not None and old.source != row.src_node_id and old.trees:
            return f"its trees begin at node {old.source}; delete them first"
        address = row.group_ip or lab.groups.address(row.group_id)
        owner = next((each for each in lab.groups if each.ip == address and each.id != row.group_id), None)
        return f"{address} is the address of group {owner.id}" if owner else ""

    def _put(self, old: Group | None, new: Group | None) -> None:
        """Send what a group has become, and tell members that they are, or are none any more."""
        core = self._core
        group = new or old
        if group is None:
            return
        core.lab.group_changed(group.id)
        before, after = (each.members if each else set[int]() for each in (old, new))
        if old is None:
            core.pump()  # nodes know the group before they are told that they are in it
            core.group_created(group.id)
        for node_id in sorted(before ^ after):
            tell_member(core, group, node_id, joined=node_id in after)


def _cause(change: SqlChange) -> dict[str, Any]:
    """Return who made a change, for its event."""
    return {
        "cause": "sql",
        "role": change.role,
        "application": change.application,
        "change": change.number,
    }
