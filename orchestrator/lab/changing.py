"""Change what a lab that is up consists of: by a topology, node by node, or link by link."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator import topology
from orchestrator.deploy import state as notes
from orchestrator.deploy.home import Home, LabDirectory, checked_name
from orchestrator.deploy.host import Progress
from orchestrator.deploy.locks import lab_lock
from orchestrator.deploy.state import LabState
from orchestrator.errors import LabNotFound, Problem
from orchestrator.lab import changes, membership, planned_change
from orchestrator.lab.membership import NewLink
from orchestrator.lab.planned_change import PlannedChange
from orchestrator.lab.prepared import digest_of
from orchestrator.topology import Topology
from orchestrator.topology.difference import Entry, difference

__all__ = ["READY_S", "Applied", "ChangingLab", "plan_of"]

LOCK_S = 20.0
"""How long another command may hold the lab."""

READY_S = 60.0
"""How long new nodes may take to be ready, unless the caller says something else."""


@dataclass(frozen=True)
class Applied:
    """What became of a lab.

    Attributes:
        lab: Its name.
        changes: What was changed, in words; empty if it was so before.
        completed: An earlier change had been interrupted, and was completed or undone.
        warnings: What the backend ignores of the services.
    """

    lab: str
    changes: tuple[Entry, ...]
    completed: bool = False
    warnings: tuple[Problem, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return it as `nm node add -o json` and others show it."""
        changes = [each.as_json() for each in self.changes]
        return {"lab": self.lab, "changes": changes, "completed": self.completed}


def plan_of(
    home: Home, source: Topology, name: str | None = None, external: Sequence[int | str] = ()
) -> PlannedChange:
    """Compare a topology with the lab of its name, which need not be up.

    Args:
        home: Where labs live.
        source: The topology.
        name: The lab's name; the topology's unless given.
        external: Further external nodes, as selectors.

    Raises:
        UsageError: A selector matches no node.
        LabDamaged: The lab's topology is gone.
    """
    directory = home.lab(checked_name(name or source.name))
    state = notes.read(directory)
    outside = topology.select(source, [str(each) for each in external]) if external else ()
    if state is not None and state.phase == "up":
        return planned_change.make(directory, state, source, outside)
    nothing = replace(source, nodes={}, links=(), routes=(), flows=(), services=(), tests=())
    return PlannedChange(directory.name, False, source, difference(nothing, source))


class ChangingLab:
    """The part of `AsyncLab` that changes what the lab consists of.

    Attributes:
        cause: Who or what asks for the changes, for the events.
    """

    cause: str = "operator"
    _directory: LabDirectory
    _state: LabState

    async def plan(
        self, source: str | Path | Topology, *, external: Sequence[int | str] = ()
    ) -> PlannedChange:
        """Compare the lab with a topology, or a topology file.

        Raises:
            TopologyInvalid: The file is wrong.
        """
        home = Home(self._directory.home)
        return plan_of(home, _loaded(source), self._directory.name, external)

    async def apply(
        self,
        source: str | Path | Topology,
        *,
        external: Sequence[int | str] = (),
        force: bool = False,
        timeout: float = READY_S,  # noqa: ASYNC109  # passed on
        progress: Progress = lambda _what: None,
    ) -> Applied:
        """Make the lab what a topology says, without touching what is in both.

        Args:
            source: The topology, or its file.
            external: Further external nodes; those that the lab has stay so if none.
            force: Remove explicit routes, groups and flows that use removed nodes and links.
            timeout: How long new nodes may take to be ready.
            progress: Told what is waited for.

        Raises:
            TopologyInvalid: The file is wrong, or a service cannot be started on the backend.
            UsageError: It cannot be done while the lab runs (`lab.differs`), or something is in use
                (`lab.in-use`); nothing was changed.
            NodeNotBack: A new node did not become ready; the change was undone.
        """
        meant = _loaded(source)
        warnings = topology.check_services(meant, self._state.backend)
        outside = topology.select(meant, [str(each) for each in external]) if external else ()

        def target(state: LabState, _current: Topology) -> PlannedChange:
            return planned_change.make(self._directory, state, meant, outside)

        digest = digest_of(meant, outside)
        applied = await self._change("apply", target, force, timeout, progress, digest)
        return replace(applied, warnings=warnings)

    async def add_node(
        self,
        number: int | None = None,
        *,
        name: str | None = None,
        links: Mapping[int | str, Mapping[str, object]] | Sequence[int | str | NewLink] = (),
        labels: Mapping[str, str] | None = None,
        external: bool = False,
        timeout: float = READY_S,  # noqa: ASYNC109  # passed on
        progress: Progress = lambda _what: None,
    ) -> int:
        """Add a node, and return its number once it is ready, with its links up and routes to it.

        Args:
            number: Its number; the first free one unless given.
            name: Its name; `node-<number>` unless given.
            links: The nodes that it gets links to; as a map with what each link does, in the words of the
                topology file: `{1: {"delay": "5 ms"}, 2: {}}`. `forward` is from the new node to the other.
            labels: Its labels.
            external: Whether it is run by a program of the user's own.
            timeout: How long it may take to be ready.
            progress: Told what is waited for.

        Raises:
            UsageError: The number or name is taken, or a link has no other end.
            LinkChangeInvalid: A value of a link is wrong.
            NodeNotBack: It did not become ready, and was removed again.
        """
        wanted = _links(links)
        made: list[int] = []

        def target(state: LabState, current: Topology) -> PlannedChange:
            meant, new = membership.with_node(
                current, number, name=name, links=wanted, labels=labels, external=external
            )
            made.append(new)
            return planned_change.make(self._directory, state, meant, ())

        await self._change("node add", target, False, timeout, progress)
        return made[-1]

    async def remove_nodes(
        self, numbers: Sequence[int], *, force: bool = False, progress: Progress = lambda _what: None
    ) -> Applied:
        """Remove nodes with their links; their programs are asked to end first.

        Args:
            numbers: The nodes.
            force: Remove explicit routes, groups, flows, services and tests that need one of them as well.
            progress: Told what is waited for.

        Raises:
            UsageError: Something needs one of them (`lab.in-use`), or no node would be left.
        """

        def target(state: LabState, current: Topology) -> PlannedChange:
            meant = membership.without_nodes(current, numbers, force=force)
            return planned_change.make(self._directory, state, meant, ())

        return await self._change("node remove", target, force, READY_S, progress)

    async def add_link(self, a: int | str, b: int | str, /, **values: object) -> Applied:
        """Add a link; `values` say what it does, in the words of the topology file, `forward` from a to b.

        Raises:
            UsageError: An end is no node, or there is such a link.
            LinkChangeInvalid: A value is wrong.
        """

        def target(state: LabState, current: Topology) -> PlannedChange:
            return planned_change.make(
                self._directory, state, membership.with_link(current, a, b, values), ()
            )

        return await self._change("link add", target, False, READY_S, lambda _what: None)

    async def remove_link(self, a: int | str, b: int | str, *, force: bool = False) -> Applied:
        """Remove a link; with `force`, explicit routes over it as well.

        Raises:
            UsageError: There is none, or a route leads over it (`lab.in-use`).
        """

        def target(state: LabState, current: Topology) -> PlannedChange:
            meant = membership.without_link(current, a, b, force=force)
            return planned_change.make(self._directory, state, meant, ())

        return await self._change("link remove", target, force, READY_S, lambda _what: None)

    async def _change(
        self,
        what: str,
        target: Callable[[LabState, Topology], PlannedChange],
        force: bool,
        timeout_s: float,
        progress: Progress,
        digest: str = "",
    ) -> Applied:
        from orchestrator.lab.run import load_topology

        directory = self._directory
        async with lab_lock(Home(directory.home), directory.name, what, LOCK_S):
            state = notes.read(directory)
            if state is None or state.phase != "up":
                raise LabNotFound(f"lab {directory.name} is not up any more", found=directory.name)
            change = target(state, load_topology(directory))
            if change.difference or change.interrupted:
                state = await changes.apply(
                    directory,
                    state,
                    change,
                    progress,
                    force=force,
                    timeout_s=timeout_s,
                    digest=digest,
                    cause=self.cause,
                )
            self._state = state
        return Applied(directory.name, tuple(change.entries), change.interrupted)


def _loaded(source: str | Path | Topology) -> Topology:
    return source if isinstance(source, Topology) else topology.load(source)


def _links(
    links: Mapping[int | str, Mapping[str, object]] | Sequence[int | str | NewLink],
) -> list[NewLink]:
    if isinstance(links, Mapping):
        return [NewLink(peer, values) for peer, values in links.items()]
    return [each if isinstance(each, NewLink) else NewLink(each) for each in links]
