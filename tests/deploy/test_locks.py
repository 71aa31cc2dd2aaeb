"""Test the lock of a lab."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.deploy.home import Home
from orchestrator.deploy.locks import lab_lock, lock_holder, machine_lock
from orchestrator.errors import HostNotFit, LabBusy

HOLDER = """
import asyncio, sys
from pathlib import Path
from orchestrator.deploy.home import Home
from orchestrator.deploy.locks import lab_lock

async def main():
    async with lab_lock(Home(Path(sys.argv[1])), "ring", "up"):
        print("held", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_the_second_is_told_who_holds_the_lab(tmp_path: Path) -> None:
    home = Home(tmp_path)
    async with lab_lock(home, "ring", "up"):
        with pytest.raises(LabBusy) as caught:
            async with lab_lock(home, "ring", "down"):
                pass
        assert "`nm up`" in caught.value.message
        assert lock_holder(home, "ring") is not None
    assert lock_holder(home, "ring") is None


async def test_labs_do_not_wait_for_each_other(tmp_path: Path) -> None:
    home = Home(tmp_path)
    async with lab_lock(home, "ring", "up"), lab_lock(home, "line", "up"):
        pass


async def test_a_waiter_gets_the_lock_when_it_is_freed(tmp_path: Path) -> None:
    home = Home(tmp_path)
    entered = asyncio.Event()

    async def wait_for_it() -> None:
        async with lab_lock(home, "ring", "down", wait_s=10):
            entered.set()

    async with lab_lock(home, "ring", "up"):
        waiter = asyncio.create_task(wait_for_it())
        await asyncio.sleep(0)
        assert not entered.is_set()
    await asyncio.wait_for(waiter, 10)


def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    home = Home(tmp_path)
    assert lock_holder(home, "ring") is not None
    holder.kill()
    holder.wait(10)
    holder.stdout.close()
    assert lock_holder(home, "ring") is None


async def test_the_lock_of_all_labs_is_not_waited_for_without_end(tmp_path: Path) -> None:
    home = Home(tmp_path)
    async with machine_lock(home, "choice"):
        with pytest.raises(LabBusy) as caught:
            async with machine_lock(home, "choice", wait_s=0.1):
                pass
    assert caught.value.id == "lab.lock-held"
    async with machine_lock(home, "choice", wait_s=0.1):
        pass


async def test_a_link_in_place_of_a_lock_is_not_followed(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.locks.mkdir(parents=True)
    (home.locks / "ring.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(HostNotFit):
        async with lab_lock(home, "ring", "up"):
            pass
    assert not (tmp_path / "victim").exists()
