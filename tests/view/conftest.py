"""A lab in memory, and the application of `nm view` on top of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from orchestrator.errors import ControllerUnreachable, UsageError
from orchestrator.impairment import LinkSpec
from orchestrator.protocol import PeerError
from orchestrator.protocol import messages as m
from orchestrator.view.access import Guard
from orchestrator.view.app import View, make_app
from orchestrator.view.feed import Feed
from orchestrator.view.folders import ResultFolders

SCRIPT = "<img src=x onerror=\"document.title='executed'\"><script>document.title='executed'</script>"
"""Executed by a page that takes text of a lab as HTML."""

PORT, TOKEN = 8080, "right-token"


class FakeLab:
    """A ring of nodes that answers as the controller and the lab's logs do.

    Attributes:
        asked: The requests, by kind.
        away: Whether the controller does not answer.
    """

    backend = "native"

    def __init__(self, n: int = 4, names: Mapping[int, str] | None = None) -> None:
        known = names or {}
        self.nodes = [
            m.NodeStatus(i, known.get(i, f"node-{i}"), "ready", f"10.0.{i >> 8}.{i & 255}")
            for i in range(1, n + 1)
        ]
        plain = LinkSpec(rate_bps=50_000_000, delay_us=5_000)
        ends = [(i, i + 1) for i in range(1, n)] + [(1, n)]
        self.links = {pair: m.LinkStatus(*pair, "up", plain, plain, "memory") for pair in ends}
        self.runs: list[m.RunStatus] = []
        self.happened: list[m.Event] = []
        self.counted: dict[int, m.NodeSample] = {}
        self.log_text: list[str] = []
        self.services: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self._heard = asyncio.Event()
        self.away = False
        self.started = "r1"
        self.progress: dict[str, tuple[int, int]] = {}
        self.add_event("lab.ready")

    async def asked_for(self, what: str, times: int) -> None:
        """Wait until something was asked for so often."""
        while self.asked.count(what) < times:
            self._heard.clear()
            await self._heard.wait()

    def add_event(self, name: str, node: int = 0, detail: Any = None) -> None:
        """Something happened."""
        seq = len(self.happened) + 1
        self.happened.append(m.Event(seq, 1_700_000_000_000 + seq, name, node, detail))

    async def status(self) -> m.Status:
        """The lab as a whole."""
        self._count("status")
        links = tuple(self.links.values())
        return m.Status(1, "ring", "ready", 1, "ok", (), tuple(self.nodes), links, (), tuple(self.runs))

    async def events(self, after: int) -> tuple[Sequence[m.Event], bool]:
        """Events after a number, two at a time."""
        self._count("events")
        found = [event for event in self.happened if event.seq > after]
        return found[:2], len(found) > 2

    async def samples(self) -> Mapping[int, m.NodeSample]:
        """Counters."""
        self._count("samples")
        return dict(self.counted)

    async def routes(self, node: int) -> m.Routes:
        """A table that leads everywhere by the next node, and an explicit route."""
        self._count("routes")
        hop = node % len(self.nodes) + 1
        table = b"".join((hop if i not in (0, node) else 0).to_bytes(4, "little") for i in range(5))
        return m.Routes(1, node, table, (m.Route(7, node, 3, (4,)),))

    async def set_link(self, change: m.SetLinkSpec) -> dict[str, Any]:
        """Change a link as the controller does, without a reset."""
        self._count("set")
        link = self._link(change.a, change.b)
        assert change.spec is not None
        new = change.spec.over(link.forward)
        self.links[link.a, link.b] = replace(link, forward=new, backward=new)
        self.add_event("link.changed", 0, {"a": change.a, "b": change.b, "cause": change.cause})
        return {"forward": new.to_wire(), "backward": new.to_wire()}

    async def set_link_state(self, change: m.SetLinkState) -> dict[str, Any]:
        """Take a link down or up."""
        self._count("state")
        link = self._link(change.a, change.b)
        down = change.direction if change.down else ""
        state = "down" if change.down else "up"
        self.links[link.a, link.b] = replace(link, state=state, down=down)
        self.add_event(f"link.{state}", 0, {"a": change.a, "b": change.b})
        return {"state": state, "down": down, "reason": ""}

    async def watch(self, runs: Sequence[str]) -> None:
        """Nothing."""

    async def logs(self, part: str, *, follow: bool = False, tail: int | None = None) -> AsyncIterator[str]:
        """The same log of all parts."""
        if part == "node-3":
            raise UsageError("node 3 is external", id="node.external")
        for line in self.log_text:
            yield line

    async def services_of(self, node: int) -> list[dict[str, Any]]:
        """The services of a node."""
        return [each for each in self.services if each["node"] == node]

    def _link(self, a: int, b: int) -> m.LinkStatus:
        try:
            return self.links[min(a, b), max(a, b)]
        except KeyError:
            raise PeerError(f"there is no link {a}–{b}", id="link.unknown") from None

    def _count(self, what: str) -> None:
        if self.away:
            raise ControllerUnreachable("nothing answers")
        self.asked.append(what)
        self._heard.set()


def place(n: int) -> dict[str, tuple[float, float]]:
    """Positions on a square."""
    side = max(1, round(n**0.5))
    return {str(i): (float((i - 1) % side), float((i - 1) // side)) for i in range(1, n + 1)}


@pytest.fixture
def lab() -> FakeLab:
    return FakeLab()


@pytest.fixture
def feed(lab: FakeLab, tmp_path: Path) -> Feed:
    return Feed(lab, ResultFolders(tmp_path / "results"), lambda: place(len(lab.nodes)))


@pytest.fixture
def client(lab: FakeLab, feed: Feed, tmp_path: Path) -> Iterator[TestClient]:
    """A browser that has the token."""
    view = View(feed, lab, lab, ResultFolders(tmp_path / "results"))
    app = Guard(make_app(view), PORT, TOKEN)
    headers = {"authorization": f"Bearer {TOKEN}"}
    asyncio.run(feed.prepare())
    with TestClient(app, base_url=f"http://127.0.0.1:{PORT}", headers=headers) as client:
        yield client
