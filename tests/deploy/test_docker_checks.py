"""Checks of services in containers: never two at a time, and none that stays behind. Without an engine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator import procfs
from orchestrator.deploy.docker import checks
from orchestrator.deploy.docker.checks import command_passes, running_checks

DOCKER = """#!/bin/sh
echo "$*" >> "{calls}"
shift 2
{missing}exec "$@"
"""


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Put a `docker` into the path that runs what it is given here; it may lack a shell."""

    def make(lacks: str = "") -> Path:
        calls, program = tmp_path / "calls", tmp_path / "docker"
        missing = f'[ "$1" != {lacks} ] || exit 127\n' if lacks else ""
        program.write_text(DOCKER.format(calls=calls, missing=missing))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        return calls

    return make


async def test_a_slow_check_is_not_begun_twice_and_its_answer_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checks, "CHECK_S", 0.01)
    begun, may_end = [], asyncio.Event()

    async def slow() -> bool:
        begun.append(1)
        await may_end.wait()
        return True

    running = running_checks()
    assert running is running_checks()
    assert not await running.passes("web", slow)
    assert not await running.passes("web", slow)
    may_end.set()
    await asyncio.wait(running._running.values(), timeout=5)
    assert await running.passes("web", slow)
    assert begun == [1]
    assert not running.runs("web")


@pytest.mark.parametrize("before", ["", "trap '' TERM; "], ids=["ends when asked", "does not"])
def test_a_command_is_ended_where_it_runs(docker: Callable[[str], Path], tmp_path: Path, before: str) -> None:
    docker("")
    note = tmp_path / "pid"
    words = ["sh", "-c", f"{before}echo $$ > {note}; exec sleep 600"]
    assert not asyncio.run(command_passes("c", words, 0.5))
    left = procfs.identify(int(note.read_text()))
    assert left is None or not procfs.wait_gone([left], 2.0)


async def test_the_words_of_a_command_and_its_exit_code_are_kept(docker: Callable[[str], Path]) -> None:
    docker("")
    assert await command_passes("c", ["test", "a b", "=", "a b"], 5)
    assert not await command_passes("c", ["false"], 5)


async def test_an_image_without_a_shell_can_be_checked(docker: Callable[[str], Path]) -> None:
    calls = docker("sh")
    assert await command_passes("c", ["true"], 5)
    assert calls.read_text().splitlines()[-1] == "exec c true"
