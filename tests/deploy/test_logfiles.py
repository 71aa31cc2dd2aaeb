"""Test reading and following log files."""

from __future__ import annotations

import asyncio
import time
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


async def test_a_long_line_is_given_in_pieces_and_a_tail_reads_a_part_of_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        file.truncate(1 << 30)  # a GiB without an end of line, and without a disk
    begin = time.monotonic()
    tail = logfiles.last_lines(log, 3)
    assert [len(line) for line in tail] == [logfiles.MOST_LINE] * 3
    assert time.monotonic() - begin < 5
    log.write_text("a" * (3 * logfiles.MOST_LINE) + "b\n\nend")
    seen = [line async for line in logfiles.lines(log, follow=False, tail=None)]
    assert [len(line) for line in seen] == [*([logfiles.MOST_LINE] * 3), 1, 0, 3]
    assert seen[-3:] == ["b", "", "end"]


def test_many_short_lines_are_all_in_a_long_tail(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"{n:0120}\n" for n in range(20_000)))
    assert len(logfiles.last_lines(log, 15_000)) == 15_000
