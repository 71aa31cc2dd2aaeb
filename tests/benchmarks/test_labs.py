"""Test the driver of `nm` against a fake program."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from benchmarks import labs
from benchmarks.errors import CommandFailed, NotRunnable

_FAKE = """#!/bin/sh
echo "$@" >> {log}
case "$1" in
up) {up} ;;
exec) shift 5; exec "$@" ;;
esac
"""
_READY = """cat "$2" >> {log}; echo '{{"nodes": [{{"id": 1, "address": "10.0.0.1"}}]}}'"""


def test_a_lab_is_brought_up_from_its_file_and_taken_down(fake: Fake) -> None:
    log = fake(_READY)
    with labs.lab(labs.topology("ring", n_nodes=4), timeout=9, options=["--processes"]) as running:
        assert running.address(1) == "10.0.0.1"
        assert running.execute(1, "echo", "hello", timeout=5).stdout == "hello\n"
        assert running.up_seconds > 0
    said = log.read_text()
    assert f"name: {running.name}\n" in said and "topology: {type: ring, n_nodes: 4}" in said
    assert "--backend native -o json --processes --timeout 9" in said
    assert said.splitlines()[-1] == f"down -n {running.name}"


def test_a_lab_that_was_taken_down_inside_is_not_taken_down_twice(fake: Fake) -> None:
    log = fake(_READY)
    with labs.lab("", timeout=9) as running:
        assert running.down() == running.down() > 0
    assert log.read_text().count("down") == 1


def test_a_failed_start_shows_the_errors_sentence_and_cleans_up(fake: Fake) -> None:
    log = fake("""echo talk >&2; echo '{{"error": {{"message": "node 3 died"}}}}' >&2; exit 5""")
    with pytest.raises(CommandFailed, match="ended with 5: node 3 died"), labs.lab("", timeout=9):
        pass
    assert "down -n" in log.read_text()


def test_a_host_that_is_not_fit_makes_a_lab_not_runnable(fake: Fake) -> None:
    fake("""echo no TUN device >&2; exit 4""")
    with pytest.raises(NotRunnable, match="no TUN device"), labs.lab("", timeout=9):
        pass


def test_a_failure_inside_the_block_still_takes_the_lab_down(fake: Fake) -> None:
    log = fake(_READY)
    with pytest.raises(ZeroDivisionError), labs.lab("", timeout=9):
        raise ZeroDivisionError
    assert "down -n" in log.read_text()


def test_a_lab_whose_benchmark_was_killed_is_taken_down_by_the_next(fake: Fake) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    log = fake("exit 1")
    names = [f"nmbench-{gone.pid}-1", f"nmbench-{os.getpid()}-1", "ring"]
    fake.answer("labs", json.dumps([{"lab": name} for name in names]))
    assert labs.remove_leftovers() == names[:1]
    assert [line for line in log.read_text().splitlines() if "down" in line] == [f"down -n {names[0]}"]


class Fake:
    """Writes a program that stands in for `nm`; called with the shell code of `up`, it returns the log."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder, self._monkeypatch = folder, monkeypatch

    def answer(self, verb: str, text: str) -> None:
        """Let a verb print a text."""
        program = self._folder / "nm"
        program.write_text(program.read_text() + f"""[ "$1" = {verb} ] && echo '{text}'\nexit 0\n""")

    def __call__(self, up: str) -> Path:
        program, log = self._folder / "nm", self._folder / "log"
        program.write_text(_FAKE.format(log=log, up=up.format(log=log)))
        program.chmod(0o755)
        self._monkeypatch.setattr(labs, "program", lambda: [str(program)])
        return log


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    return Fake(tmp_path, monkeypatch)
