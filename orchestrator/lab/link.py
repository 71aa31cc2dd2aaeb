"""`AsyncLink`: a link of a lab that is up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.errors import UsageError
from orchestrator.impairment import LinkSpec
from orchestrator.lab.probes import DEFAULT_PROBE_BYTES, DEFAULT_PROBE_S
from orchestrator.protocol.messages import ProbeStatus, SetLinkState

if TYPE_CHECKING:
    from orchestrator.lab.handle import AsyncLab
    from orchestrator.topology.links import Change

Direction = Literal["both", "forward", "backward"]
"""Which way of a link: `forward` is from the end that was named first to the other."""


@dataclass(frozen=True)
class AsyncLink:
    """A link of a lab that is up; whether it exists is known to the controller, and found out by a call."""

    lab: AsyncLab
    a: int
    b: int

    async def set(
        self,
        spec: LinkSpec | None = None,
        *,
        direction: Direction = "both",
        merge: bool = True,
        **values: object,
    ) -> dict[str, Any]:
        """Change what it does, from now on; see `AsyncLab.set_link`.

        Args:
            spec: What it shall do, or nothing where `values` say it.
            direction: Which way.
            merge: Keep what is not stated.
            values: In the words of the topology file: `delay="20 ms", loss="1 %"`, `loss={"mean": "1 %",
                "burst": 5}`.

        Raises:
            UsageError: Nothing is stated, or both ways of stating it are used (`link.nothing`).
            LinkChangeInvalid: A word or a value is wrong.
        """
        change = stated(spec, values)
        return await self.lab.set_link(
            self.a,
            self.b,
            change.forward,
            direction=direction,
            merge=merge and not change.whole,
            backward=change.backward,
        )

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

    async def probe(
        self,
        direction: Literal["forward", "backward"] = "forward",
        *,
        below: bool = False,
        bytes: int | str = DEFAULT_PROBE_BYTES,
        time: float | str = DEFAULT_PROBE_S,
    ) -> ProbeStatus:
        """Measure capacity, round trip and loss of one direction with traffic of its own.

        Probes of one link run one after the other; this one waits for those that were asked for before.

        Args:
            direction: `forward` from the end that was named first to the other, or `backward`.
            below: Measure what carries the link, and not its impairments.
            bytes: The most that is sent: a number, or a size such as `"10 MB"`.
            time: How long it may take: seconds, or `"2 s"`.

        Returns:
            What was measured; `.state` is `failed` and `.reason` says why if it could not be.

        Raises:
            UsageError: `bytes` or `time` is no size or time.
            PeerError: There is no such link (`link.unknown`), it is down (`probe.refused`), a bound is out of
                range (`probe.invalid`), or too many probes wait for the link (`probe.busy`).
        """
        src, dst = (self.a, self.b) if direction == "forward" else (self.b, self.a)
        return await self.lab.probe(src, dst, below=below, bytes=bytes, time=time)

    async def reset(self, direction: Direction = "both") -> dict[str, Any]:
        """Return it to what the topology declares, and up."""
        return await self.lab.set_link(self.a, self.b, direction=direction, reset=True)


def stated(spec: LinkSpec | None, values: Mapping[str, object]) -> Change:
    """Return what a change of a link states, as a specification or in the words of the topology file.

    Raises:
        UsageError: It states nothing, or both (`link.nothing`).
        LinkChangeInvalid: A word or a value is wrong.
    """
    if (spec is None) == (not values):
        raise UsageError(
            "a change of a link needs values, as a `LinkSpec` or in the words of the file",
            id="link.nothing",
            expected='for example `delay="20 ms"`',
        )
    from orchestrator.topology.links import Change, read_values

    return read_values(values, "link.set") if spec is None else Change(spec, spec, whole=False)
