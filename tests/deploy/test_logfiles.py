"""Test reading and following log files."""

from __future__ import annotations

import asyncio
from pathlib import Path

from orchestrator.deploy import logfiles


def test_the_last_lines_of_a_large_file(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"line {n} {'x' * 90}\n" for n in range(5000)))
    assert [line.split()[1] for line in logfiles.last_lines(log, 3)] == ["4997", "4998", "4999"]
    assert logfiles.last_lines(tmp_path / "missing", 3) == []
    assert logfiles.last_lines(log, 0) == []


async def test_all_lines_then_the_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("a\nb\nunfinished")
    assert [line async for line in logfiles.lines(log, follow=False, tail=None)] == ["a", "b", "unfinished"]


async def test_a_followed_log_gives_what_comes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("old\n")
    seen: asyncio.Queue[str] = asyncio.Queue()

    async def follow() -> None:
        async for line in logfiles.lines(log, follow=True, tail=1):
            seen.put_nowait(line)

    task = asyncio.create_task(follow())
    assert await asyncio.wait_for(seen.get(), 5) == "old"
    with log.open("a") as file:
        file.write("new\n")
    assert await asyncio.wait_for(seen.get(), 5) == "new"
    log.write_text("x\n")
    assert await asyncio.wait_for(seen.get(), 5) == "x"
    task.cancel()
