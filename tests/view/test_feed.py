"""Test what pages are sent, and what the lab is asked for."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from orchestrator.impairment import LinkSpec
from orchestrator.protocol import messages as m
from orchestrator.view import feed as module
from orchestrator.view.board import MOST_WAITING, Board, Subscription
from orchestrator.view.feed import Feed
from orchestrator.view.rates import Rates
from tests.view.conftest import FakeLab

LIMIT_S = 5.0


@contextlib.asynccontextmanager
async def page(feed: Feed) -> AsyncIterator[AsyncIterator[Any]]:
    """Open a page; yield the messages that it is sent."""
    following = asyncio.create_task(feed.run())
    frames = feed.board.subscribe(0.05)

    async def messages() -> AsyncIterator[Any]:
        async for frame in frames:
            if frame.startswith(b"data: "):
                yield json.loads(frame[6:])

    try:
        async with asyncio.timeout(LIMIT_S):
            yield messages()
    finally:
        await frames.aclose()  # type: ignore[attr-defined]
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following


async def until(messages: AsyncIterator[Any], found: Any) -> Any:
    async for message in messages:
        if found(message):
            return message
    raise AssertionError


async def test_a_page_gets_all_first_and_then_what_differs(feed: Feed, lab: FakeLab) -> None:
    await feed.prepare()
    async with page(feed) as messages:
        first = await anext(messages)
        assert set(first["all"]["nodes"]) == {"1", "2", "3", "4"} == set(first["all"]["at"])
        assert [event["name"] for event in first["events"]] == ["lab.ready"]
        await lab.set_link(m.SetLinkSpec(1, 2, "both", LinkSpec(delay_us=9_000)))
        change = await until(messages, lambda each: "links" in each.get("set", {}))
        assert list(change["set"]["links"]) == ["1-2"] and set(change["set"]) == {"links"}
        assert change["set"]["links"]["1-2"]["forward"]["words"] == "rate 50 Mbit, delay 9 ms"


async def test_the_status_is_asked_for_after_an_event_alone(feed: Feed, lab: FakeLab) -> None:
    await feed.prepare()
    lab.asked.clear()
    async with page(feed) as messages:
        await anext(messages)
        await lab.asked_for("events", 4)
        assert lab.asked.count("status") == 0
        lab.add_event("node.unreachable", 2)
        await lab.asked_for("status", 1)


async def test_without_a_page_the_lab_is_asked_for_nothing(
    feed: Feed, lab: FakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.001)
    await feed.prepare()
    async with page(feed) as messages:
        await anext(messages)
    lab.asked.clear()
    following = asyncio.create_task(feed.run())
    await asyncio.sleep(0.05)
    following.cancel()
    assert lab.asked == []


async def test_a_controller_that_is_away_is_shown_and_the_page_recovers(
    feed: Feed, lab: FakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AWAY_S", 0.01)
    await feed.prepare()
    async with page(feed) as messages:
        await anext(messages)
        lab.away = True
        change = await until(messages, lambda each: "lab" in each.get("set", {}))
        assert change["set"]["lab"] == {"state": "unknown", "problems": ["nothing answers"]}
        lab.away = False
        change = await until(messages, lambda each: "lab" in each.get("set", {}))
        assert change["set"]["lab"] == {"state": "ready", "problems": []}


async def test_a_lab_that_is_brought_up_anew_is_shown_with_its_own_events(feed: Feed, lab: FakeLab) -> None:
    for number in range(5):
        lab.add_event("node.ready", number)
    await feed.prepare()
    async with page(feed) as messages:
        await anext(messages)
        lab.nodes, lab.links, lab.happened, lab.started = lab.nodes[:2], {}, [], "r2"
        lab.add_event("lab.ready")
        feed.changed()
        change = await until(messages, lambda each: "nodes" in each.get("gone", {}))
        assert change["gone"]["nodes"] == ["3", "4"] == change["gone"]["at"]
        change = await until(messages, lambda each: "events" in each)
        assert [event["name"] for event in change["events"]] == ["lab.ready"]


async def test_load_loss_and_queue_come_from_two_samples(feed: Feed, lab: FakeLab) -> None:
    rates, spec = Rates(), LinkSpec(rate_bps=8_000_000, limit_bytes=10_000)
    specs = {(1, 2): spec, (2, 1): spec}

    def sample(time_ms: int, packets: int, drops: int, queued: int = 0, process: int = 7) -> dict[int, Any]:
        link = m.LinkSample(2, packets, packets * 1_000, 0, queued, packets * 4_000.0, {"loss": drops})
        return {1: m.NodeSample(time_ms, process, 1, 0, 0, links=(link,))}

    assert rates.update(sample(1_000, 100, 0), specs) == {}
    found = rates.update(sample(2_000, 590, 10, 2_500), specs)["1>2"]
    assert found == {
        "bps": 3_920_000,
        "packets": 490,
        "drops": {"loss": 10},
        "loss": 0.02,
        "load": 0.49,
        "queued": 2_500,
        "queue": 0.25,
        "delay_ms": 4.0,
    }
    assert rates.update(sample(3_000, 590, 10), specs) == {}, "nothing moved"
    assert rates.update(sample(4_000, 700, 10, process=8), specs) == {}, "another process counts anew"
    assert rates.update({}, specs) == {}


async def test_a_page_that_does_not_read_gets_all_again() -> None:
    board = Board()
    board.put(nodes={"1": 1})
    slow = Subscription(board)
    board._pages.add(slow)
    assert json.loads((await slow.next(1) or b"")[6:]) == {"all": {"nodes": {"1": 1}}, "events": []}
    for value in range(MOST_WAITING + 5):
        board.put(nodes={"1": value, "2": value})
    assert len(slow._waiting) == 0
    again = json.loads((await slow.next(1) or b"")[6:])
    assert again["all"]["nodes"] == {"1": MOST_WAITING + 4, "2": MOST_WAITING + 4}
    assert await slow.next(0.01) is None
    board.put(nodes={"2": 3})
    assert json.loads((await slow.next(1) or b"")[6:]) == {
        "set": {"nodes": {"2": 3}},
        "gone": {"nodes": ["1"]},
    }
