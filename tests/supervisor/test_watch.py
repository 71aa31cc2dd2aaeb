"""Test the detection of ended processes."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.procfs import ProcessId, boot_id, identify
from orchestrator.supervisor.watch import Watch, read_note


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    yield process
    process.kill()
    process.wait()


def identity(pid: int) -> ProcessId:
    found = identify(pid)
    assert found is not None
    return found


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
    watch.follow({"host": ProcessId(child.pid, identity(child.pid).started - 1)})
    assert watch.wait(30.0) == ["host"]
    assert child.poll() is None


def test_a_part_that_was_replaced_is_watched_anew(child: subprocess.Popen[bytes]) -> None:
    watch = Watch()
    watch.follow({"host": ProcessId(2**22 + 1, 1)})
    assert watch.wait(0.0) == ["host"]
    watch.follow({"host": identity(child.pid)})
    assert watch.wait(0.0) == []
    child.kill()
    assert watch.wait(30.0) == ["host"]


def test_a_part_that_cannot_be_watched_is_not_reported_as_ended(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_pid: int) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    watch = Watch()
    parts = {"host": identity(child.pid)}
    monkeypatch.setattr("orchestrator.supervisor.watch.RETRY_S", 0.05)
    with monkeypatch.context() as patched:
        patched.setattr(os, "pidfd_open", fail)
        watch.follow(parts)
        assert watch.wait(30.0) == []  # returns soon, so that it is tried again
    watch.follow(parts)
    child.kill()
    assert watch.wait(30.0) == ["host"]


def test_only_the_note_of_a_lab_that_is_up_since_this_boot_counts(tmp_path: Path) -> None:
    def note(**changes: Any) -> None:
        good = {"run": "r1", "phase": "up", "boot": boot_id(), "parts": {"host": {"pid": 7, "started": 9}}}
        (tmp_path / "state.json").write_text(json.dumps({**good, **changes}))

    assert read_note(tmp_path) is None
    note()
    assert read_note(tmp_path) == ("r1", {"host": ProcessId(7, 9)})
    for changes in ({"phase": "starting"}, {"boot": "another"}, {"parts": 3}):
        note(**changes)
        assert read_note(tmp_path) is None
