"""Test that all processes of a command are terminated."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.deploy import termination
from orchestrator.deploy.termination import TAG, end_tagged
from orchestrator.procfs import ProcessId

WAYS = {
    "child": "sleep 100 & wait",
    "group": "set -m; sleep 100 & wait",
    "session": "setsid sleep 100 & sleep 100",
    "orphan": "(setsid sleep 100 &) ; sleep 100",
    "no environment": "env -i sleep 100 & sleep 100",
    "deaf": "trap '' TERM; sleep 100",
}


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "100"]) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("way", WAYS)
def test_nothing_of_a_command_is_left(
    way: str, other: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(termination, "GRACE_S", 0.3)
    tag = f"test-{os.getpid()}-{way.replace(' ', '-')}"
    with subprocess.Popen(["sh", "-c", WAYS[way]], env={**os.environ, TAG: tag}):
        deadline = time.monotonic() + 10
        wanted = 1 if way == "deaf" else 2
        while len(found := termination._find(tag)) < wanted or b"sleep" not in _commands(found):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert end_tagged(tag) == []
    assert not any(ProcessId(*process).alive() for process in found)
    assert other.poll() is None
    assert end_tagged(tag) == []


def test_it_runs_alone_with_the_standard_library() -> None:
    """As in a container: the file on standard input, no package of ours in reach."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-", "nobody-has-this-tag"],
        input=Path(termination.__file__).read_bytes(),
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, b"", b"")


def _commands(found: set[tuple[int, int]]) -> bytes:
    parts = []
    for pid, _started in found:
        try:
            parts.append(Path(f"/proc/{pid}/comm").read_bytes())
        except OSError:
            continue
    return b" ".join(parts)
