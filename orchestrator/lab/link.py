"""`AsyncLink`: a link of a lab that is up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.impairment import LinkSpec
from orchestrator.protocol.messages import SetLinkState

if TYPE_CHECKING:
    from orchestrator.lab.handle import AsyncLab

Direction = Literal["both", "forward", "backward"]
"""Which way of a link: `forward` is from the end that was named first to the other."""


@dataclass(frozen=True)
class AsyncLink:
    """A link of a lab that is up; whether it exists is known to the controller, and found out by a call."""

    lab: AsyncLab
    a: int
    b: int

    async def set(
        self, spec: LinkSpec, *, direction: Direction = "both", merge: bool = True
    ) -> dict[str, Any]:
        """Change what it does, from now on; see `AsyncLab.set_link`."""
        return await self.lab.set_link(self.a, self.b, spec, direction=direction, merge=merge)

    async def down(self, direction: Direction = "both") -> dict[str, Any]:
        """Take it down: its packets are lost from now on, and routes by shortest path avoid it.

        Returns once the nodes have done it and have their new routes. In both directions, packets in flight
        are lost and the link is removed at both nodes at once; in one direction, packets in flight arrive.

        Returns:
            `state`, `down` (the direction that is down) and `reason` of the link afterwards.

        Raises:
            ProtocolError: There is no such link (`link.unknown`).
        """
        return await self.lab.change_links(SetLinkState(self.a, self.b, True, direction))

    async def up(self, direction: Direction = "both") -> dict[str, Any]:
        """Take it up again; a link between groups of a partition stays down until `AsyncLab.heal`."""
        return await self.lab.change_links(SetLinkState(self.a, self.b, False, direction))

    async def reset(self, direction: Direction = "both") -> dict[str, Any]:
        """Return it to what the topology declares, and up."""
        return await self.lab.set_link(self.a, self.b, direction=direction, reset=True)
