"""Test the supervisor's lock: one supervisor at most, restarted when it dies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.supervisor import files

WAIT_S = 30.0


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lab's folder in which the supervisor is a program that notes its number and waits."""
    for name in ("run", "logs"):
        (tmp_path / name).mkdir()
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho $$ >>{tmp_path}/pids\nexec sleep 60\n")
    python.chmod(0o755)
    files.launch_file(tmp_path).write_text(json.dumps({"python": str(python), "environment": {}}))
    monkeypatch.setattr(files, "FIRST_DELAY_S", 0.0)
    return tmp_path


def pids(folder: Path) -> list[int]:
    try:
        return [int(word) for word in (folder / "pids").read_text().split()]
    except OSError:
        return []


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def kill(pid: int) -> None:
    os.kill(pid, 9)


def test_none_is_started_where_none_is_to_be(folder: Path) -> None:
    assert not files.ensure(folder)
    assert not files.is_held(folder)


def test_the_lock_passes_to_the_supervisor_and_is_free_when_it_dies(folder: Path) -> None:
    files.marker(folder).touch()
    handle = files.take(folder)
    assert handle is not None
    assert files.take(folder) is None, "while somebody is about to start it, nobody else does"
    assert files.start(folder, handle)
    until(lambda: len(pids(folder)) == 1)
    assert files.is_held(folder) and not files.ensure(folder)
    kill(pids(folder)[0])
    until(lambda: not files.is_held(folder))
    assert files.ensure(folder)
    until(lambda: len(pids(folder)) == 2)
    kill(pids(folder)[1])


def test_whoever_keeps_it_starts_it_until_it_is_ended_for_good(folder: Path) -> None:
    files.marker(folder).touch()
    files.ensure(folder)
    restarter = threading.Thread(target=files.keep, args=(folder,))
    restarter.start()
    until(lambda: len(pids(folder)) == 1)
    kill(pids(folder)[0])
    until(lambda: len(pids(folder)) == 2)
    files.marker(folder).unlink()
    kill(pids(folder)[1])
    restarter.join(WAIT_S)
    assert not restarter.is_alive() and len(pids(folder)) == 2


def test_another_user_does_not_start_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.marker(folder).touch()
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    assert not files.ensure(folder)


def test_the_supervisor_ends_by_itself_when_its_lab_is_gone(folder: Path) -> None:
    files.marker(folder).touch()
    handle = files.take(folder)
    assert handle is not None
    words = [sys.executable, "-m", "orchestrator.supervisor", str(folder), str(handle)]
    done = subprocess.run(words, pass_fds=(handle,), timeout=WAIT_S, capture_output=True, check=True)
    os.close(handle)
    assert b"the lab is gone" in done.stdout
    assert not files.marker(folder).exists(), "else it would be started again and again"


def test_the_supervisor_loads_little() -> None:
    """Every lab has one, for as long as it is up."""
    heavy = ("asyncio", "dataclasses", "logging", "orchestrator.deploy", "orchestrator.store", "subprocess")
    program = (
        f"import sys, orchestrator.supervisor.__main__; print([m for m in {heavy!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
