"""Test the detection of ended processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.clock import boot_id
from orchestrator.deploy.processes import identify
from orchestrator.supervisor.watch import Process, Watch, end, read_note


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    yield process
    process.kill()
    process.wait()


def identity(pid: int) -> Process:
    found = identify(pid)
    assert found is not None
    return Process(found.pid, found.started)


def test_a_process_that_ends_is_told_once(child: subprocess.Popen[bytes]) -> None:
    watch = Watch()
    parts = {"host": identity(child.pid)}
    watch.follow(parts)
    assert watch.wait(0.0) == []
    child.kill()
    assert watch.wait(30.0) == ["host"]
    watch.follow(parts)
    assert watch.wait(0.0) == []


def test_a_number_that_was_given_to_another_process_is_not_the_part(child: subprocess.Popen[bytes]) -> None:
    """The part of that number has ended; the process that has it now is nobody we know."""
    watch = Watch()
    watch.follow({"host": Process(child.pid, identity(child.pid).started - 1)})
    assert watch.wait(30.0) == ["host"]
    assert child.poll() is None


def test_a_part_that_was_replaced_is_watched_anew(child: subprocess.Popen[bytes]) -> None:
    watch = Watch()
    watch.follow({"host": Process(2**22 + 1, 1)})
    assert watch.wait(0.0) == ["host"]
    watch.follow({"host": identity(child.pid)})
    assert watch.wait(0.0) == []
    child.kill()
    assert watch.wait(30.0) == ["host"]


def test_only_the_note_of_a_lab_that_is_up_since_this_boot_counts(tmp_path: Path) -> None:
    def note(**changes: Any) -> None:
        good = {"run": "r1", "phase": "up", "boot": boot_id(), "parts": {"host": {"pid": 7, "started": 9}}}
        (tmp_path / "state.json").write_text(json.dumps({**good, **changes}))

    assert read_note(tmp_path) is None
    note()
    assert read_note(tmp_path) == ("r1", {"host": Process(7, 9)})
    for changes in ({"phase": "starting"}, {"boot": "another"}, {"parts": 3}):
        note(**changes)
        assert read_note(tmp_path) is None


STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"


def test_parts_are_asked_to_end_and_killed_when_they_do_not(child: subprocess.Popen[bytes]) -> None:
    deaf = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE)
    try:
        assert deaf.stdout is not None and deaf.stdout.readline() == b"\n"
        end([identity(child.pid), identity(deaf.pid)], 0.5)
        assert child.wait(timeout=30) == -signal.SIGTERM
        assert deaf.wait(timeout=30) == -signal.SIGKILL
    finally:
        deaf.kill()
        deaf.communicate()


def test_ending_a_part_spares_the_process_that_has_its_number_now(child: subprocess.Popen[bytes]) -> None:
    end([Process(child.pid, identity(child.pid).started - 1), Process(2**22 + 1, 1)], 0.5)
    assert child.poll() is None
