"""Keep the lab's event log: numbered, recent events in memory, all events in Postgres."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from orchestrator import log
from orchestrator.clock import Clock
from orchestrator.protocol.messages import Event
from orchestrator.store import EventRow, Store
from orchestrator.values import ValueRefused, plain_value

__all__ = ["EventLog"]

KEEP = 5_000
"""Events kept in memory; older ones are read from Postgres, which keeps them for as long as the lab lives."""

MAX_FACTS_BYTES = 16 * 1024
"""The size limit of one event's facts, in bytes."""

MANY = 20
"""Nodes that may have a line each in the log when the same happens to all of them at once."""


class EventLog:
    """Writes events to the log, to Postgres and to memory.

    Args:
        lab: The lab's name, for the log.
        store: Where they are kept.
        clock: Tells when they happened.
        last: The number of the last event of the controller before.

    Attributes:
        on_added: Called after each event.
    """

    def __init__(self, lab: str, store: Store, clock: Clock, last: int = 0) -> None:
        self._log = log.get("orchestrator.controller", lab=lab)
        self._store = store
        self._clock = clock
        self._recent: deque[Event] = deque(maxlen=KEEP)
        self._last = last
        self.on_added: list[Callable[[], None]] = []

    @property
    def last(self) -> int:
        """The number of the last event."""
        return self._last

    def add(self, name: str, node: int = 0, facts: Any = None, *, level: str = "info") -> None:
        """Note an event.

        Args:
            name: Such as `node.ready`; the log says it with a space.
            node: The node, 0 for the lab.
            facts: A map of plain values, or nothing.
            level: The log's level.
        """
        facts = _bounded(facts)
        self._last += 1
        time_ms = round(self._clock.wall() * 1000)
        self._recent.append(Event(self._last, time_ms, name, node, facts))
        self._store.history.event(EventRow(self._last, time_ms, name, node, facts))
        shown = {str(key): value for key, value in facts.items()} if isinstance(facts, dict) else {}
        logged = {"node": node, **shown} if node else shown
        getattr(self._log, level)(name.replace(".", " "), **logged)
        for added in self.on_added:
            added()

    def add_many(self, name: str, nodes: list[int], facts: Any = None, *, level: str = "info") -> None:
        """Note the same event of several nodes; the log says it once if they are many."""
        many = len(nodes) > MANY
        for node in nodes:
            self.add(name, node, facts, level="debug" if many else level)
        if many:
            getattr(self._log, level)(
                name.replace(".", " "), count=len(nodes), first=nodes[0], last=nodes[-1]
            )

    def recent(self, after: int, limit: int) -> tuple[list[Event], bool] | None:
        """Return events after a number and whether there are more; None if memory does not go back so far."""
        oldest = self._recent[0].seq if self._recent else self._last + 1
        if after + 1 < oldest:
            return None
        found = [event for event in self._recent if event.seq > after]
        return found[:limit], len(found) > limit


def _bounded(facts: Any) -> Any:
    """Return the facts of an event, or why they were left out: nodes are not trusted."""
    try:
        return plain_value(facts, limit=MAX_FACTS_BYTES)
    except ValueRefused as refused:
        return {"left_out": str(refused)}
