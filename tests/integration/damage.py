"""Helpers that kill processes and mount full or read-only file systems."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.procfs import ProcessId, send_signal, wait_gone


def kill(process: ProcessId) -> None:
    """Kill a process, and wait until it is gone."""
    assert send_signal(process, signal.SIGKILL)
    assert wait_gone([process], 10) == []


@contextmanager
def tmpfs(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own, made with these options; where none can be made, the test is skipped."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True)
    if done.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
