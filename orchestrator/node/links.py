"""Links as roles change them: `ctx.link(1, 2).set(delay="20 ms")`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

from orchestrator.protocol.messages import TimelineChange

Direction = Literal["both", "forward", "backward"]
"""Which way of a link: `forward` is from the node that was named first to the other."""

Groups = str | Sequence[str | Sequence[int | str]]
"""Groups of nodes: `[[1, 2], [3, 4]]`, or text such as `"1,2|3,4"`."""


def read_groups(groups: Groups, number: Callable[[int | str], int]) -> tuple[tuple[int, ...], ...]:
    """Return the groups of a partition as numbers of nodes.

    Args:
        groups: Numbers or names of nodes.
        number: The number of a node; raises for one that the lab does not have.
    """
    written = groups.split("|") if isinstance(groups, str) else groups
    return tuple(
        tuple(
            number(node.strip() if isinstance(node, str) else node)
            for node in (group.split(",") if isinstance(group, str) else group)
        )
        for group in written
    )


class RoleLink:
    """A link of the lab, for a role of a scenario with `faults: true`.

    Every method returns once the nodes have made the change; asynchronous variants end in `_async`. When the
    run ends, the link returns to what the topology declares.

    Raises:
        RoleError: The scenario does not allow it, there is no such link, or it cannot do that.
    """

    def __init__(
        self,
        a: int,
        b: int,
        wait: Callable[[TimelineChange], None],
        wait_async: Callable[[TimelineChange], Awaitable[None]],
    ) -> None:
        self._a, self._b = a, b
        self._wait, self._wait_async = wait, wait_async

    def set(self, *, direction: Direction = "both", **values: object) -> None:
        """Change what it does, in the words of the topology file: `delay="20 ms", loss="1 %"`."""
        self._wait(self._set(direction, values))

    async def set_async(self, *, direction: Direction = "both", **values: object) -> None:
        """Like `set`, for roles that are `async def`."""
        await self._wait_async(self._set(direction, values))

    def down(self, direction: Direction = "both") -> None:
        """Take it down: its packets are lost, and routes by shortest path avoid it."""
        self._wait(self._change("down", direction))

    async def down_async(self, direction: Direction = "both") -> None:
        """Like `down`, for roles that are `async def`."""
        await self._wait_async(self._change("down", direction))

    def up(self, direction: Direction = "both") -> None:
        """Take it up again."""
        self._wait(self._change("up", direction))

    async def up_async(self, direction: Direction = "both") -> None:
        """Like `up`, for roles that are `async def`."""
        await self._wait_async(self._change("up", direction))

    def reset(self, direction: Direction = "both") -> None:
        """Return it to what the topology declares, and up."""
        self._wait(self._change("reset", direction))

    async def reset_async(self, direction: Direction = "both") -> None:
        """Like `reset`, for roles that are `async def`."""
        await self._wait_async(self._change("reset", direction))

    def _change(self, do: str, direction: Direction) -> TimelineChange:
        return TimelineChange(0, do, self._a, self._b, direction)

    def _set(self, direction: Direction, values: dict[str, Any]) -> TimelineChange:
        # Loaded by the first change: most roles make none.
        from orchestrator.topology.links import read_values

        change = read_values(values, "ctx.link")
        return TimelineChange(
            0, "set", self._a, self._b, direction, change.forward, change.backward, change.whole
        )
