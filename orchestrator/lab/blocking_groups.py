"""`Groups`: the multicast groups of a lab that is up, for blocking code."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.lab import loop_thread
from orchestrator.lab.groups import AsyncGroups, Group, GroupTree

__all__ = ["Groups"]


class Groups:
    """The groups of a lab: `lab.groups`; see `AsyncGroups`, whose methods these are."""

    def __init__(self, inner: AsyncGroups) -> None:
        self._inner = inner

    def list(self) -> Sequence[Group]:
        """Return all groups, in order of their numbers."""
        return loop_thread.call(self._inner.list())

    def get(self, which: int | str) -> Group:
        """Return a group by number or name."""
        return loop_thread.call(self._inner.get(which))

    def create(self, label: str, source: int | str, members: Sequence[int | str] = ()) -> Group:
        """Create a group with a source and members; one that is there already gains the members."""
        return loop_thread.call(self._inner.create(label, source, members))

    def delete(self, which: int | str) -> Group:
        """Delete a group with its members and trees; return what it was."""
        return loop_thread.call(self._inner.delete(which))

    def join(self, which: int | str, nodes: Sequence[int | str]) -> Group:
        """Make nodes members of a group."""
        return loop_thread.call(self._inner.join(which, nodes))

    def leave(self, which: int | str, nodes: Sequence[int | str]) -> Group:
        """Make nodes members no more."""
        return loop_thread.call(self._inner.leave(which, nodes))

    def set_trees(self, which: int | str, trees: Sequence[GroupTree]) -> Group:
        """Give a group its trees; they stay as they are when members and links change."""
        return loop_thread.call(self._inner.set_trees(which, trees))

    def compute_tree(self, which: int | str, receivers: Sequence[int | str] = ()) -> Group:
        """Set the tree of shortest paths to receivers, the members unless given, as it is now."""
        return loop_thread.call(self._inner.compute_tree(which, receivers))

    def reset_trees(self, which: int | str) -> Group:
        """Let the controller compute the tree, again with every change of members and links."""
        return loop_thread.call(self._inner.reset_trees(which))
