"""The blocking face waits for clean-up before it lets an interrupt through."""

from __future__ import annotations

import asyncio
import signal
import threading

import pytest

from orchestrator.lab import portal
from orchestrator.lab.peace import in_peace


def test_results_and_errors_come_back() -> None:
    async def fine() -> int:
        return 5

    async def broken() -> None:
        raise ValueError("no")

    assert portal.call(fine()) == 5
    with pytest.raises(ValueError, match="no"):
        portal.call(broken())


def test_an_interrupt_waits_for_the_clean_up() -> None:
    cleaned = threading.Event()
    begun = threading.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.1)
            cleaned.set()

    def interrupt() -> None:
        begun.wait(10)
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        portal.call(work())
    assert cleaned.is_set()


async def test_clean_up_survives_being_cancelled_again_and_again() -> None:
    done = False

    async def clean() -> None:
        nonlocal done
        await asyncio.sleep(0.05)
        done = True

    task = asyncio.create_task(in_peace(clean()))
    for _ in range(3):
        await asyncio.sleep(0.01)
        task.cancel()
    await task
    assert done


def test_the_blocking_face_inside_its_own_loop_is_refused() -> None:
    async def outer() -> None:
        portal.call(asyncio.sleep(0))

    with pytest.raises(RuntimeError, match="use the async one"):
        portal.call(outer())
