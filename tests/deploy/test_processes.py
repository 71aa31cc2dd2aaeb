"""Test that processes are found by label and terminated by identity."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from orchestrator import procfs
from orchestrator.deploy import processes
from orchestrator.procfs import ProcessId

# Says when it is set up, then waits for a signal for ever.
SLEEPER = "import signal; print('set', flush=True); signal.pause()"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPER}"


def start(tmp_path: Path, lab: str = "ring", code: str = SLEEPER) -> ProcessId:
    log = tmp_path / f"{lab}.log"
    marks = processes.labels(lab, "run-1", tmp_path, "host")
    process = processes.spawn([sys.executable, "-c", code], marks=marks, log=log)
    while log.read_text() != "set\n":
        assert process.alive()
    return process


def test_a_process_is_found_by_its_labels_and_by_nothing_else(tmp_path: Path) -> None:
    process = start(tmp_path)
    try:
        found = processes.labelled(tmp_path, "ring")
        assert [each.identity for each in found] == [process]
        assert (found[0].lab, found[0].run, found[0].part) == ("ring", "run-1", "host")
        assert processes.labelled(tmp_path, "line") == []
        assert processes.labelled(tmp_path / "another-home", "ring") == []
    finally:
        assert processes.end([process], 5) == []
    assert processes.labelled(tmp_path) == []


def test_a_number_that_was_used_again_is_not_touched(tmp_path: Path) -> None:
    process = start(tmp_path)
    other = ProcessId(process.pid, process.started + 1)
    try:
        assert not other.alive()
        assert not procfs.send_signal(other, signal.SIGKILL)
        assert processes.end([other], 1) == []
        assert process.alive()
    finally:
        processes.end([process], 5)


def test_who_does_not_listen_is_killed(tmp_path: Path) -> None:
    process = start(tmp_path, code=STUBBORN)
    assert processes.end([process], 0.1) == []
    assert not process.alive()
    assert processes.exit_code(process) == -signal.SIGKILL


def test_the_termination_signal_can_be_chosen(tmp_path: Path) -> None:
    process = start(tmp_path, code=STUBBORN)
    assert processes.end([process], 5, signals={process: signal.SIGQUIT}) == []
    assert processes.exit_code(process) == -signal.SIGQUIT


def test_a_process_that_works_in_a_folder_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "db"
    folder.mkdir()
    process = processes.spawn([sys.executable, "-c", SLEEPER], marks={}, log=tmp_path / "log", cwd=folder)
    try:
        assert processes.working_under(folder) == [process]
        assert processes.working_under(tmp_path / "other") == []
    finally:
        processes.end([process], 5)


def test_we_and_our_parents_are_never_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = procfs.network_namespace(os.getpid())
    assert own is not None
    assert os.getpid() not in {process.pid for process in processes.in_namespaces([own])}


def test_a_dead_process_is_not_alive(tmp_path: Path) -> None:
    marks = processes.labels("ring", "run-1", tmp_path, "host")
    process = processes.spawn(
        [sys.executable, "-c", "raise SystemExit(3)"], marks=marks, log=tmp_path / "log"
    )
    assert procfs.wait_gone([process], 10) == []
    assert not process.alive() and processes.labelled(tmp_path) == []
    assert processes.exit_code(process) == 3
