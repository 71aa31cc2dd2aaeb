"""Follow a lab for as long as a page is open, and put what changes on the board.

The controller is asked for events a few times a second, which costs next to nothing, and for the whole status
only after an event, or when the last one is old. Samples of counters are taken in intervals that are a
multiple of what one costs, so that a large lab is not slowed down by being looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from orchestrator import log
from orchestrator.clock import Clock, SystemClock
from orchestrator.errors import NmError
from orchestrator.impairment import LinkSpec
from orchestrator.protocol.messages import NodeSample, Status
from orchestrator.view import picture
from orchestrator.view.board import Board
from orchestrator.view.folders import ResultFolders
from orchestrator.view.rates import Rates
from orchestrator.view.source import Source

__all__ = ["Feed"]

_log = log.get(__name__)

POLL_S = 0.25
"""Between two questions for events."""

STATUS_S = 10.0
"""A status that is older is asked for again even without an event."""

STATUS_COSTS = 3.0
"""Between two statuses: at least so many times as long as one took."""

SAMPLE_S, SAMPLE_MOST_S = 1.0, 10.0
"""Between two samples, at least and at most."""

SAMPLE_COSTS = 20.0
"""Between two samples: so many times as long as one took."""

FOLDERS_S = 2.0
"""Between two looks at the results folders."""

AWAY_S = 1.0
"""Between two attempts while the controller does not answer."""

Positions = Callable[[], dict[str, tuple[float, float]]]


class Feed:
    """Keeps a board up to date.

    Args:
        source: The lab.
        folders: The results folders of runs.
        positions: Computes where the nodes are in the picture; called when the lab is new.
        clock: The time.

    Attributes:
        board: What pages show.
    """

    def __init__(
        self, source: Source, folders: ResultFolders, positions: Positions, clock: Clock | None = None
    ) -> None:
        self.board = Board()
        self._source = source
        self._folders = folders
        self._positions = positions
        self._clock = clock or SystemClock()
        self._links = picture.Links()
        self._rates = Rates()
        self._status: Status | None = None
        self._specs: dict[tuple[int, int], LinkSpec] = {}
        self._started = ""
        self._last_event = 0
        self._dirty = True
        self._wake = asyncio.Event()
        self._status_at, self._status_cost = float("-inf"), 0.0
        self._sample_at, self._sample_cost = float("-inf"), 0.0
        self._folders_at = float("-inf")

    def changed(self) -> None:
        """Ask for the status now: something was changed."""
        self._dirty = True
        self._status_cost = 0.0
        self._wake.set()

    def sample(self, node: int) -> NodeSample | None:
        """Return the last counters of a node."""
        return self._rates.nodes.get(node)

    async def prepare(self) -> None:
        """Take a first status, so that the first page has something to show at once."""
        await self._round()

    async def run(self) -> None:
        """Follow the lab until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._repeat(self._round, lambda: POLL_S))
            group.create_task(self._repeat(self._measure, self._sample_interval))

    async def _repeat(self, work: Callable[[], Any], interval: Callable[[], float]) -> None:
        """Do something while a page is open; a failure is shown, and does not end it."""
        while True:
            await self.board.watched.wait()
            wait_s = AWAY_S
            try:
                await work()
                wait_s = interval()
            except NmError as error:
                self._away(error)
            except Exception:
                _log.exception("view.failed")
            await self._wait(wait_s)

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        self._wake.clear()

    async def _round(self) -> None:
        """Take new events, and the status and the folders where that is due."""
        now = self._clock.monotonic()
        await self._take_events()
        old = now - self._status_at
        if (self._dirty and old >= STATUS_COSTS * self._status_cost) or old >= STATUS_S:
            await self._take_status()
        if self._status is not None:
            await self._show_runs(self._status)

    async def _take_events(self) -> None:
        more = True
        while more:
            found, more = await self._source.events(self._last_event)
            if found:
                self._last_event = found[-1].seq
                self._dirty = True
                self._folders_at = float("-inf")
                self.board.add_events([picture.event(each) for each in found])

    async def _take_status(self) -> None:
        began = self._clock.monotonic()
        self._dirty = False
        status = await self._source.status()
        self._status = status
        self._specs = picture.specs(status.links)
        sections: dict[str, Any] = {
            "lab": picture.lab(status, self._source.backend),
            "nodes": picture.nodes(status.nodes),
            "links": self._links.section(status.links),
        }
        if self._source.started != self._started:
            if self._started:  # the lab was brought up anew, and counts its events from one
                self._last_event, self._rates = 0, Rates()
            self._started = self._source.started
            sections["at"] = await asyncio.to_thread(self._positions)
        self.board.put(**sections)
        self._status_at = self._clock.monotonic()
        self._status_cost = self._status_at - began

    async def _show_runs(self, status: Status) -> None:
        running = [run.run for run in status.runs if run.state in ("running", "stopping")]
        await self._source.watch(running)
        now = self._clock.monotonic()
        if now - self._folders_at >= FOLDERS_S or running:
            self._folders_at = now
            found = await asyncio.to_thread(self._folders.find)
            self.board.put(runs=picture.runs(status.runs, self._source.progress, found))

    async def _measure(self) -> None:
        if self._status is None:
            return
        began = self._clock.monotonic()
        samples = await self._source.samples()
        self.board.put(measured=self._rates.update(samples, self._specs))
        self._sample_cost = self._clock.monotonic() - began

    def _sample_interval(self) -> float:
        return min(SAMPLE_MOST_S, max(SAMPLE_S, SAMPLE_COSTS * self._sample_cost))

    def _away(self, error: NmError) -> None:
        """Show why the lab is not known at the moment."""
        self._status_at = float("-inf")
        known = dict(self.board.section("lab"))
        state = "down" if error.id == "lab.not-found" else "unknown"
        self.board.put(lab={**known, "state": state, "problems": [error.message]})
