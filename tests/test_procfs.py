"""Test what is read from `/proc`, and that processes are signalled and waited for by identity."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator import procfs
from orchestrator.procfs import ProcessId, end, identify


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    environment = {"NM_LAB": "ring", "EMPTY": "", "BYTES": b"\xff\n=1"}
    process = subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None and process.stdout.readline() == b"\n"
    yield process
    process.kill()
    process.communicate()


def test_the_relations_of_a_process_are_read(child: subprocess.Popen[bytes]) -> None:
    found = procfs.stat(child.pid)
    assert found is not None and found.runs and found.parent == os.getpid()
    assert child.pid in procfs.pids() and child.pid in procfs.children(os.getpid())
    assert procfs.network_namespace(child.pid) == Path("/proc/self/ns/net").stat().st_ino
    assert procfs.working_directory(child.pid) == Path.cwd()
    assert procfs.command(child.pid) == [sys.executable, "-c", SLEEPER]
    assert {os.getpid(), os.getppid()} <= procfs.ancestry()
    assert identify(os.getpid()) == procfs.this_process()


def test_children_are_listed_by_the_thread_that_started_them(child: subprocess.Popen[bytes]) -> None:
    started: list[tuple[int, list[int]]] = []

    def start() -> None:
        with subprocess.Popen(["sleep", "60"]) as process:
            started.append((process.pid, procfs.children(os.getpid(), threading.get_native_id())))
            process.kill()

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    (pid, listed), first = started[0], procfs.children(os.getpid(), os.getpid())
    assert listed == [pid]
    assert child.pid in first and pid not in first


def test_the_environment_is_read_as_it_was_at_the_start(child: subprocess.Popen[bytes]) -> None:
    values = procfs.environment(child.pid)
    assert (values["NM_LAB"], values["EMPTY"]) == ("ring", "")
    assert os.fsencode(values["BYTES"]) == b"\xff\n=1"
    assert procfs.environment(child.pid, having="NM_LAB=ring") == values
    assert procfs.environment(child.pid, having="NM_LAB=line") == {}


def test_a_name_of_brackets_and_blanks_does_not_confuse(tmp_path: Path) -> None:
    program = tmp_path / ") Z 1 ("
    shutil.copy(shutil.which("sleep") or "", program)
    with subprocess.Popen([program, "60"]) as process:
        try:
            while "Z 1" not in Path(f"/proc/{process.pid}/comm").read_text():
                assert process.poll() is None
            found = procfs.stat(process.pid)
            assert found is not None and found.runs and found.parent == os.getpid()
        finally:
            process.kill()


def test_of_a_process_that_is_gone_nothing_is_said() -> None:
    assert procfs.stat(GONE.pid) is None and identify(GONE.pid) is None and not GONE.alive()
    assert procfs.environment(GONE.pid) == {} and procfs.command(GONE.pid) == []
    assert procfs.network_namespace(GONE.pid) is None and procfs.working_directory(GONE.pid) is None
    assert procfs.status("CapEff", of=GONE.pid) is None and procfs.children(GONE.pid) == []
    assert procfs.open_pidfd(GONE) is None and procfs.wait_gone([GONE], 10) == []


def test_the_status_of_the_calling_thread_is_read() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        assert int(procfs.status("SigBlk", of="thread-self") or "", 16) >> (signal.SIGUSR1 - 1) & 1
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
    assert procfs.status("NoSuchLine") is None


def test_one_that_waits_to_be_collected_does_not_run_and_can_still_be_collected() -> None:
    process = subprocess.Popen(["false"])
    found = identify(process.pid)
    assert found is not None
    assert procfs.wait_gone([found], 30) == []
    assert identify(process.pid) == found and not found.alive()
    assert process.wait() == 1


def test_the_wait_ends_with_the_process_or_with_its_limit(child: subprocess.Popen[bytes]) -> None:
    found = identify(child.pid)
    assert found is not None
    assert procfs.wait_gone([found], 0.05) == [found]
    begun = time.monotonic()
    threading.Timer(0.05, child.kill).start()
    assert procfs.wait_gone([found], 60) == []
    assert time.monotonic() - begun < 30


def test_processes_are_asked_to_end_and_killed_when_they_do_not(child: subprocess.Popen[bytes]) -> None:
    stubborn = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPER}"
    deaf = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE)
    try:
        assert deaf.stdout is not None and deaf.stdout.readline() == b"\n"
        asked = [found for each in (child, deaf) if (found := identify(each.pid))]
        assert end(asked, 0.5) == []
        assert child.wait(timeout=30) == -signal.SIGTERM
        assert deaf.wait(timeout=30) == -signal.SIGKILL
    finally:
        deaf.kill()
        deaf.communicate()


def test_the_process_that_has_the_number_now_is_spared(child: subprocess.Popen[bytes]) -> None:
    found = identify(child.pid)
    assert found is not None
    earlier = ProcessId(child.pid, found.started - 1)
    assert not earlier.alive() and procfs.open_pidfd(earlier) is None
    assert not procfs.send_signal(earlier, signal.SIGKILL)
    assert end([earlier, GONE], 0.5) == []
    assert child.poll() is None


@pytest.mark.parametrize(
    "look",
    [
        ProcessId.alive,
        procfs.open_pidfd,
        lambda each: procfs.send_signal(each, signal.SIGKILL),
        lambda each: procfs.wait_gone([each], 0.1),
        lambda each: end([each], 0.1),
    ],
)
def test_with_too_many_open_files_a_process_is_not_taken_as_ended(
    child: subprocess.Popen[bytes], look: Callable[[ProcessId], object]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with pytest.raises(OSError) as caught:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
            look(ProcessId(child.pid, 1))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.errno == errno.EMFILE


def test_a_pidfd_is_closed_when_the_process_cannot_be_looked_at(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: ProcessId) -> bool:
        raise OSError(errno.ENFILE, "no")

    monkeypatch.setattr(ProcessId, "alive", fail)
    before = sorted(Path("/proc/self/fd").iterdir())
    with pytest.raises(OSError, match="no"):
        procfs.open_pidfd(ProcessId(child.pid, 1))
    assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_the_number_of_a_thread_is_no_process() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        assert thread.native_id is not None
        assert procfs.open_pidfd(ProcessId(thread.native_id, 1)) is None
    finally:
        done.set()
        thread.join()


def test_more_processes_are_waited_for_than_may_be_watched_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procfs, "MOST_PIDFDS", 2)
    started = [subprocess.Popen(["sleep", "60"]) for _ in range(7)]
    try:
        found = [each for process in started if (each := identify(process.pid))]
        assert procfs.wait_gone(found, 0.05) == sorted(found)
        for process in started[1:]:
            process.kill()
        assert procfs.wait_gone(found, 0.5) == found[:1]
        assert end(found, 10) == []
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_a_process_of_another_user_is_returned_as_not_ended(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    found = identify(child.pid)
    assert found is not None
    with monkeypatch.context() as patched:
        patched.setattr(signal, "pidfd_send_signal", refuse)
        assert end([found, GONE], 60) == [found]
    assert child.poll() is None


SLEEPER = "import signal; print(flush=True); signal.pause()"
GONE = ProcessId(2**22 + 1, 1)  # above the greatest number that Linux gives
