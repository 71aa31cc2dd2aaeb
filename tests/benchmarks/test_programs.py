"""Test programs with time limits, transfers, and restored settings."""

from __future__ import annotations

import hashlib
import json
import socket
import sys
from pathlib import Path

import pytest

from benchmarks import sysctls
from benchmarks.commands import Background, require, run
from benchmarks.errors import CommandFailed, NotRunnable
from benchmarks.transfer import CHUNK, chunks
from orchestrator import procfs


def test_a_program_that_takes_too_long_is_ended_and_named() -> None:
    with pytest.raises(CommandFailed, match=r"took longer than 0\.2 s"):
        run(["sleep", "60"], timeout=0.2)


def test_a_failing_program_shows_the_end_of_its_output() -> None:
    with pytest.raises(CommandFailed, match="ended with 3: no such thing"):
        run(["sh", "-c", "echo no such thing >&2; exit 3"], timeout=5)


def test_a_missing_program_is_not_runnable_and_names_the_package() -> None:
    with pytest.raises(NotRunnable, match="Debian package `mininet`"):
        require("mn-that-is-not-there", package="mininet")


def test_leaving_the_block_ends_the_children_too() -> None:
    with Background(["sh", "-c", "sleep 60 & echo $!; wait"]) as process:
        child = int(process.wait_for_line("", timeout=5))
        assert _runs(child)
    assert not _runs(child)


def test_waiting_for_a_line_of_a_program_that_ended_says_why() -> None:
    with (
        Background(["sh", "-c", "echo port in use >&2"]) as process,
        pytest.raises(CommandFailed, match="ended early: port in use"),
    ):
        process.wait_for_line("listening", timeout=5)


def test_a_transfer_over_loopback_arrives_with_the_same_hash() -> None:
    program = str(Path(__file__).parents[2] / "benchmarks" / "transfer.py")
    total = 3 * CHUNK + 17
    port = str(_free_port())
    with Background([sys.executable, program, "receive", "127.0.0.1", port]) as receiver:
        receiver.wait_for_line("listening", timeout=10)
        sent = json.loads(
            run([sys.executable, program, "send", "127.0.0.1", port, str(total), "7"], timeout=20).stdout
        )
        got = json.loads(receiver.finish(timeout=20).stdout)
    assert got["bytes"] == sent["bytes"] == total
    assert (
        got["sha256"] == sent["sha256"] == hashlib.sha256(b"".join(map(bytes, chunks(total, 7)))).hexdigest()
    )


def test_no_two_pieces_of_a_transfer_are_alike() -> None:
    assert len({bytes(piece) for piece in chunks(4 * CHUNK, 1)}) == 4


def test_a_setting_that_a_peer_changed_is_put_back_and_reported(tmp_path: Path) -> None:
    setting = tmp_path / "net" / "core" / "rmem_max"
    setting.parent.mkdir(parents=True)
    setting.write_text("212992\n")
    with sysctls.preserved(tmp_path) as state:
        setting.write_text("16777216\n")
    assert setting.read_text().strip() == "212992"
    assert state.changed == {"net/core/rmem_max": ("212992", "16777216")}
    assert state.failed == []


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _runs(pid: int) -> bool:
    found = procfs.stat(pid)
    return found is not None and found.runs
