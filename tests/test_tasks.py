"""Test background tasks."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace

import pytest

from orchestrator import tasks
from orchestrator.tasks import keep_running, spawn


async def fails() -> None:
    raise RuntimeError("broken")


async def test_a_task_that_fails_is_logged_and_its_owner_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    monkeypatch.setattr(tasks, "_LOG", SimpleNamespace(error=lambda text, **_facts: said.append(text)))
    told: list[Exception] = []
    task = spawn(fails(), name="pump", failed=told.append)
    await asyncio.wait([task])
    await asyncio.sleep(0)  # done callbacks run one step later
    assert [str(error) for error in told] == ["broken"]
    assert said == ["background task failed"]


async def test_a_task_that_is_cancelled_did_not_fail(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="orchestrator")
    told: list[Exception] = []
    task = spawn(asyncio.sleep(60), name="pump", failed=told.append)
    task.cancel()
    await asyncio.wait([task])
    await asyncio.sleep(0)
    assert not told and not caplog.records


async def test_a_task_that_is_to_run_for_ever_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "FIRST_DELAY_S", 0.0)
    starts: list[int] = []
    failures: list[Exception] = []

    async def work() -> None:
        starts.append(len(starts))
        if len(starts) < 4:
            raise RuntimeError("broken")

    await asyncio.wait_for(keep_running(work, name="writer", failed=failures.append), 5)
    assert starts == [0, 1, 2, 3]
    assert len(failures) == 3
