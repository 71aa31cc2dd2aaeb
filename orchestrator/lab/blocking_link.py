"""`Link`: a link of a lab that is up, for blocking code."""

from __future__ import annotations

from typing import Any, Literal

from orchestrator.impairment import LinkSpec
from orchestrator.lab import loop_thread
from orchestrator.lab.link import AsyncLink, Direction
from orchestrator.lab.probes import DEFAULT_PROBE_BYTES, DEFAULT_PROBE_S
from orchestrator.protocol.messages import ProbeStatus

__all__ = ["Link"]


class Link:
    """A link of a lab that is up."""

    def __init__(self, inner: AsyncLink) -> None:
        self._inner = inner

    def __repr__(self) -> str:
        return f"Link({self._inner.a}, {self._inner.b})"

    def set(
        self,
        spec: LinkSpec | None = None,
        *,
        direction: Direction = "both",
        merge: bool = True,
        **values: object,
    ) -> dict[str, Any]:
        """Change what it does, in the words of the file: `delay="20 ms", loss="1 %"`; see `AsyncLink.set`."""
        return loop_thread.call(self._inner.set(spec, direction=direction, merge=merge, **values))

    def down(self, direction: Direction = "both") -> dict[str, Any]:
        """Take it down: its packets are lost from now on, and routes avoid it; see `AsyncLink.down`."""
        return loop_thread.call(self._inner.down(direction))

    def up(self, direction: Direction = "both") -> dict[str, Any]:
        """Take it up again; a link between groups of a partition stays down until `Lab.heal`."""
        return loop_thread.call(self._inner.up(direction))

    def reset(self, direction: Direction = "both") -> dict[str, Any]:
        """Return it to what the topology declares, and up."""
        return loop_thread.call(self._inner.reset(direction))

    def probe(
        self,
        direction: Literal["forward", "backward"] = "forward",
        *,
        below: bool = False,
        bytes: int | str = DEFAULT_PROBE_BYTES,
        time: float | str = DEFAULT_PROBE_S,
    ) -> ProbeStatus:
        """Measure `.capacity_bps`, round trip and `.loss` of one direction; see `AsyncLink.probe`."""
        return loop_thread.call(self._inner.probe(direction, below=below, bytes=bytes, time=time))
