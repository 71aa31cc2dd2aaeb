"""Test commands in nodes: output, streaming, time limits, termination."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import pytest

from orchestrator.deploy.native import NativeHost
from orchestrator.errors import NmError
from orchestrator.lab import commands
from orchestrator.lab.commands import run_in_node, run_in_nodes
from tests.lab.conftest import MakeLab


class HereHost:
    """A backend whose nodes are this machine."""

    def command(self, directory: object, state: object, node: int, argv: list[str], **_: object) -> list[str]:
        return ["env", f"NODE={node}", *argv]

    async def end_command(self, *_: object, **__: object) -> list[str]:
        return []


host = cast(Any, HereHost())


async def test_what_a_command_printed_and_how_it_ended(make_lab: MakeLab) -> None:
    done = await run_in_node(host, *make_lab(), 2, ["sh", "-c", "echo $NODE; echo oops >&2; exit 3"])
    assert (done.node, done.exit_code, done.stdout, done.stderr) == (2, 3, "2\n", "oops\n")
    assert not done.ok
    assert done.as_json()["seconds"] > 0


async def test_it_reads_what_it_is_given(make_lab: MakeLab) -> None:
    data = b"x" * 1_000_000
    done = await run_in_node(host, *make_lab(), 1, ["wc", "-c"], stdin=data)
    assert done.stdout.strip() == "1000000"


async def test_a_signal_becomes_128_and_more(make_lab: MakeLab) -> None:
    done = await run_in_node(host, *make_lab(), 1, ["sh", "-c", "kill -9 $$"])
    assert done.exit_code == 137


async def test_a_command_that_takes_too_long_is_124_with_what_it_said(make_lab: MakeLab) -> None:
    started = time.monotonic()
    script = "echo begun; sleep 60 & wait"
    done = await run_in_node(host, *make_lab(), 1, ["sh", "-c", script], timeout_s=0.5)
    assert done.exit_code == 124
    assert done.stdout == "begun\n"
    assert "longer than 0.5 s" in done.stderr
    assert time.monotonic() - started < 5


async def test_several_at_once_in_the_order_asked(make_lab: MakeLab) -> None:
    lines: list[tuple[int, str, str]] = []
    done = await run_in_nodes(
        host,
        *make_lab(),
        [3, 1, 2],
        ["sh", "-c", "echo line $NODE"],
        on_line=lambda node, stream, line: lines.append((node, stream, line)),
    )
    assert [each.node for each in done] == [3, 1, 2]
    assert sorted(lines) == [(n, "stdout", f"line {n}") for n in (1, 2, 3)]


async def test_nodes_that_cannot_be_entered_are_named(make_lab: MakeLab) -> None:
    with pytest.raises(NmError) as caught:
        await run_in_nodes(NativeHost(), *make_lab(), [1, 2], ["true"])
    assert caught.value.id == "lab.no-table"
    assert "host.json is not there" in caught.value.message


async def test_cancelling_ends_the_command(make_lab: MakeLab) -> None:
    task = asyncio.create_task(run_in_node(host, *make_lab(), 1, ["sleep", "60"]))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)


async def test_what_is_collected_has_a_limit_and_a_mark(
    make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "KEPT_BYTES", 1000)
    done = await run_in_node(host, *make_lab(), 1, ["head", "-c", "5000", "/dev/zero"])
    assert done.stdout.startswith("\0" * 1000 + "\n… [4000 more bytes")
    assert done.as_json()["cut_bytes"] == 4000


async def test_a_line_without_end_is_told_in_pieces(make_lab: MakeLab) -> None:
    lines: list[str] = []
    done = await run_in_node(
        host,
        *make_lab(),
        1,
        ["head", "-c", "20000000", "/dev/zero"],
        on_line=lambda _node, _stream, line: lines.append(line),
    )
    assert done.exit_code == 0 and done.stdout == ""
    assert sum(map(len, lines)) == 20_000_000
    assert max(map(len, lines)) <= 2 * commands.PIECE_BYTES
