"""Test that an orphaned namespace is distinguished from another one with the same inode."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.deploy import namespaces
from orchestrator.deploy.home import Home, LabDirectory
from orchestrator.deploy.netns_cookies import netns_cookies, own_netns_cookie
from orchestrator.procfs import ProcessId, identify

SLEEPER = "import signal; print('set', flush=True); signal.pause()"

if os.geteuid() != 0:
    pytest.skip("only root makes network namespaces without a user namespace", allow_module_level=True)


@contextmanager
def inside_a_namespace() -> Iterator[ProcessId]:
    """A process in a network namespace of its own."""
    command = ["unshare", "--net", sys.executable, "-c", SLEEPER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "set\n"
            identity = identify(process.pid)
            assert identity is not None
            yield identity
        finally:
            process.kill()


def publish(directory: LabDirectory, host: ProcessId, inode: int, cookie: int) -> None:
    table = {
        "pid": host.pid,
        "started": host.started,
        "user_namespace": False,
        "mount_namespace": False,
        "offload": "",
        "nodes": {"1": {"fd": 3, "inode": inode, "cookie": cookie}},
    }
    directory.host_table("host").write_text(json.dumps(table))


@pytest.fixture
def directory(tmp_path: Path) -> LabDirectory:
    lab = Home(tmp_path).lab("ring")
    lab.create()
    return lab


def inode_of(process: ProcessId) -> int:
    return Path(f"/proc/{process.pid}/ns/net").stat().st_ino


def test_a_cookie_is_the_namespaces_and_not_the_processs() -> None:
    with inside_a_namespace() as one, inside_a_namespace() as other:
        read = netns_cookies([one.pid, other.pid, os.getpid()])
        assert len(set(read.values())) == 3
        assert read[os.getpid()] == own_netns_cookie() != 0
    assert netns_cookies([one.pid]) == {}
    assert netns_cookies([]) == {}


def test_reading_cookies_loads_what_it_needs_before_the_first_fork() -> None:
    program = (
        "import os, sys; sys.path.append(sys.argv.pop(1))\n"
        "from orchestrator.deploy.netns_cookies import main\n"
        "os.fork = lambda: sys.exit('orchestrator.syscalls' not in sys.modules)\n"
        "main()"
    )
    command = [sys.executable, "-I", "-S", "-c", program, str(Path(namespaces.__file__).parents[2]), "1"]
    assert subprocess.run(command, check=False).returncode == 0


def test_a_process_in_an_orphaned_namespace_of_ours_is_found(directory: LabDirectory) -> None:
    gone = ProcessId(os.getpid(), 1)
    with inside_a_namespace() as process:
        publish(directory, gone, inode_of(process), netns_cookies([process.pid])[process.pid])
        assert namespaces.processes_inside(directory) == [process]


def test_a_process_in_a_foreign_namespace_with_the_same_inode_is_not_found(directory: LabDirectory) -> None:
    gone = ProcessId(os.getpid(), 1)
    with inside_a_namespace() as other:
        ours = netns_cookies([other.pid])[other.pid] - 1
        for cookie in (ours, 0):
            publish(directory, gone, inode_of(other), cookie)
            assert namespaces.processes_inside(directory) == []


def test_while_the_host_process_lives_the_number_is_enough(directory: LabDirectory) -> None:
    host = identify(os.getpid())
    assert host is not None
    with inside_a_namespace() as process:
        publish(directory, host, inode_of(process), 0)
        assert namespaces.processes_inside(directory) == [process]
