"""The changes of a run's timeline, which messages carry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from orchestrator.impairment import LinkSpec, with_trace
from orchestrator.protocol.schema import U32, U64

__all__ = ["TimelineChange"]


@dataclass(frozen=True, slots=True)
class TimelineChange:
    """A change of links, or of a node, at a time of a run.

    Attributes:
        at_us: Microseconds from the moment at which every role has started.
        do: `set`, `reset`, `down`, `up`, `partition`, `heal` or `node`.
        a: One end of the link; 0 for all links in `reset`, and where no link is meant.
        b: The other.
        direction: `forward` (a to b), `backward` or `both`.
        spec: What `set` states.
        backward: What it states from b to a, where that differs from `spec`.
        whole: Nothing that is not stated stays in force.
        groups: Those of `partition`.
        node: The node.
        fault: What is done to it: `kill`, `stop`, `start`, `pause` or `unpause`.
        cause: What the event of the lab names as cause.
    """

    at_us: U64
    do: str
    a: U32 = 0
    b: U32 = 0
    direction: str = "both"
    spec: LinkSpec | None = None
    backward: LinkSpec | None = None
    whole: bool = False
    groups: tuple[tuple[U32, ...], ...] = ()
    node: U32 = 0
    fault: str = ""
    cause: str = ""

    def without_traces(self) -> TimelineChange:
        """Return the same without the contents of traces, which `with_traces` puts back."""
        return self._with(lambda spec: spec.without_data())

    def with_traces(self, known: Mapping[str, bytes]) -> TimelineChange:
        """Return the same with the contents of its traces, by digest.

        Raises:
            ValueError: One of them is not known.
        """
        return self._with(lambda spec: with_trace(spec, known))

    def _with(self, change: Callable[[LinkSpec], LinkSpec]) -> TimelineChange:
        spec, backward = (each and change(each) for each in (self.spec, self.backward))
        return replace(self, spec=spec, backward=backward)

    @property
    def where(self) -> str:
        """What it changes, in the words of the tables of `nm`."""
        if self.do == "node":
            return f"node {self.node}"
        if self.do in ("partition", "heal"):
            return "|".join(",".join(map(str, group)) for group in self.groups) or "all links"
        if not self.a:
            return "all links"
        ways = {"forward": f"{self.a} → {self.b}", "backward": f"{self.b} → {self.a}"}
        return ways.get(self.direction, f"{self.a}–{self.b}")
