"""Test the detection of slow callbacks."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests import slow_callbacks


def test_what_blocks_a_loop_is_found_and_what_waits_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_callbacks, "LIMIT_S", 0.2)

    async def waits() -> None:
        assert asyncio.get_running_loop().get_debug()
        await asyncio.sleep(0.3)

    async def blocks() -> None:
        time.sleep(0.3)  # noqa: ASYNC251  # as a look-up of a name would

    with slow_callbacks.watched() as slow:
        asyncio.run(waits())
        assert slow == []
        asyncio.run(blocks())
    assert len(slow) == 1 and "blocks" in slow[0]
