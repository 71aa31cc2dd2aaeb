"""The blocking counterparts of the methods that change what a lab consists of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.lab import loop_thread
from orchestrator.lab.changing import READY_S, Applied
from orchestrator.lab.membership import NewLink
from orchestrator.lab.planned_change import PlannedChange
from orchestrator.topology import Topology

if TYPE_CHECKING:
    from orchestrator.lab.handle import AsyncLab

__all__ = ["BlockingChanges"]


class BlockingChanges:
    """The part of `Lab` that changes what the lab consists of."""

    _inner: AsyncLab

    def plan(self, topology: str | Path | Topology, *, external: Sequence[int | str] = ()) -> PlannedChange:
        """Compare the lab with a topology, or a topology file; see `AsyncLab.plan`."""
        return loop_thread.call(self._inner.plan(topology, external=external))

    def apply(
        self,
        topology: str | Path | Topology,
        *,
        external: Sequence[int | str] = (),
        force: bool = False,
        timeout: float = READY_S,
    ) -> Applied:
        """Make the lab what a topology says, without touching what is in both; see `AsyncLab.apply`."""
        return loop_thread.call(self._inner.apply(topology, external=external, force=force, timeout=timeout))

    def add_node(
        self,
        number: int | None = None,
        *,
        name: str | None = None,
        links: Mapping[int | str, Mapping[str, object]] | Sequence[int | str | NewLink] = (),
        labels: Mapping[str, str] | None = None,
        external: bool = False,
        timeout: float = READY_S,
    ) -> int:
        """Add a node, and return its number once it is ready; see `AsyncLab.add_node`."""
        return loop_thread.call(
            self._inner.add_node(
                number, name=name, links=links, labels=labels, external=external, timeout=timeout
            )
        )

    def remove_nodes(self, numbers: Sequence[int], *, force: bool = False) -> Applied:
        """Remove nodes with their links; see `AsyncLab.remove_nodes`."""
        return loop_thread.call(self._inner.remove_nodes(numbers, force=force))

    def add_link(self, a: int | str, b: int | str, **values: object) -> Applied:
        """Add a link; see `AsyncLab.add_link`."""
        return loop_thread.call(self._inner.add_link(a, b, **values))

    def remove_link(self, a: int | str, b: int | str, *, force: bool = False) -> Applied:
        """Remove a link; see `AsyncLab.remove_link`."""
        return loop_thread.call(self._inner.remove_link(a, b, force=force))
