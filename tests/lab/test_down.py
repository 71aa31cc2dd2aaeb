"""Test that `down` terminates everything and verifies it."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest

from orchestrator import procfs
from orchestrator.deploy.home import Home
from orchestrator.deploy.locks import lab_lock
from orchestrator.errors import LabBusy
from orchestrator.lab import down
from orchestrator.procfs import ProcessId
from orchestrator.testing.leftovers import leftovers
from tests.lab.conftest import MakeLab

Sleeper = Callable[[str], ProcessId]


def say(_what: str) -> None:
    pass


async def test_processes_and_files_are_gone(home: Home, make_lab: MakeLab, sleeper: Sleeper) -> None:
    make_lab("ring")
    process = sleeper("ring")
    result = await down.take_down(home, "ring", say)
    assert result.found
    assert any(str(process.pid) in each for each in result.ended)
    assert not process.alive()
    assert leftovers(home) == []


async def test_nothing_there_is_success(home: Home) -> None:
    result = await down.take_down(home, "nobody", say)
    assert not result.found


async def test_another_lab_is_not_touched(home: Home, make_lab: MakeLab, sleeper: Sleeper) -> None:
    make_lab("ring")
    directory, _ = make_lab("line")
    other = sleeper("line")
    await down.take_down(home, "ring", say)
    assert other.alive() and directory.exists()
    await down.take_down(home, "line", say)


@pytest.mark.parametrize("damage", ["note", "run", "all"])
async def test_a_half_deleted_lab_is_taken_down_all_the_same(
    home: Home, make_lab: MakeLab, sleeper: Sleeper, damage: str
) -> None:
    directory, _ = make_lab("ring")
    process = sleeper("ring")
    if damage == "note":
        directory.state_file.write_text("{ half a no")
    elif damage == "run":
        shutil.rmtree(directory.run)
    else:
        shutil.rmtree(directory.path)
    assert (await down.take_down(home, "ring", say)).found
    assert not process.alive()
    assert leftovers(home) == []


async def test_a_lab_that_is_being_started_is_left_alone(
    home: Home, make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(down, "LOCK_WAIT_S", 0.1)
    directory, _ = make_lab("ring", phase="starting", owner=procfs.this_process())
    async with lab_lock(home, "ring", "up"):
        with pytest.raises(LabBusy):
            await down.take_down(home, "ring", say)
    assert directory.exists()


async def test_gc_takes_what_nobody_owns(home: Home, make_lab: MakeLab, sleeper: Sleeper) -> None:
    make_lab("works", phase="up")
    make_lab("crashed", phase="starting", owner=ProcessId(2**22 + 1, 1))
    make_lab("starting", phase="starting", owner=procfs.this_process())
    running, leftover = sleeper("works"), sleeper("forgotten")
    results = await down.collect_garbage(home, say)
    assert [result.lab for result in results] == ["crashed", "forgotten"]
    assert running.alive() and not leftover.alive()
    assert [lab.name for lab in home.labs()] == ["starting", "works"]
    await down.take_all_down(home, say)
    assert leftovers(home) == []
