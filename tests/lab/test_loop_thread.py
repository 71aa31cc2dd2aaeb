"""Test that the blocking API waits for clean-up before it raises an interrupt."""

from __future__ import annotations

import asyncio
import signal
import threading

import pytest

from orchestrator.lab import loop_thread
from orchestrator.lab.cleanup import run_shielded


def test_results_and_errors_come_back() -> None:
    async def fine() -> int:
        return 5

    async def broken() -> None:
        raise ValueError("no")

    assert loop_thread.call(fine()) == 5
    with pytest.raises(ValueError, match="no"):
        loop_thread.call(broken())


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
        loop_thread.call(work())
    assert cleaned.is_set()


async def test_clean_up_survives_being_cancelled_again_and_again() -> None:
    done = False

    async def clean() -> None:
        nonlocal done
        await asyncio.sleep(0.05)
        done = True

    task = asyncio.create_task(run_shielded(clean()))
    for _ in range(3):
        await asyncio.sleep(0.01)
        task.cancel()
    await task
    assert done


def test_the_blocking_api_inside_its_own_loop_is_refused() -> None:
    async def outer() -> None:
        loop_thread.call(asyncio.sleep(0))

    with pytest.raises(RuntimeError, match="use the asynchronous API"):
        loop_thread.call(outer())


def test_work_that_was_done_when_the_interrupt_came_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller never got its result, so nobody else could take it back."""
    undone: list[str] = []

    async def work() -> str:
        return "made"

    async def undo(made: str) -> None:
        undone.append(made)

    class Interrupted(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            super().wait(timeout)
            if not undone and not self.told:
                self.told = True
                raise KeyboardInterrupt
            return True

        told = False

    begin = loop_thread._Job.begin

    def first_only(job: loop_thread._Job[str]) -> None:
        monkeypatch.setattr(loop_thread._Job, "begin", begin)
        job.ended = Interrupted()
        begin(job)

    monkeypatch.setattr(loop_thread._Job, "begin", first_only)
    with pytest.raises(KeyboardInterrupt):
        loop_thread.call(work(), undo=undo)
    assert undone == ["made"]
