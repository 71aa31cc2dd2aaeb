"""Test options of a host process: offload, queues, threads, and a stalled thread."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from orchestrator.deploy.home import Home
from orchestrator.errors import NmError
from orchestrator.impairment import LinkSpec
from orchestrator.lab.blocking import Node
from orchestrator.procfs import ProcessId
from orchestrator.testing.plugin import Labs
from tests.integration.conftest import RING, ROOT, Nm

Part = Callable[[str, str], ProcessId]

MIXED = """
name: mixed
topology: {type: line, n_nodes: 3}
defaults: {node: {offload: off}}
nodes:
  2: {offload: auto}
  3: {num_tun_queues: 2}
"""

PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH = 0x4206, 0x4207, 17


def test_offload_is_off_and_queues_are_many_where_the_file_says_so(labs: Labs, part: Part) -> None:
    lab = labs.up(MIXED)
    assert [_carries_super_packets(lab.node(n)) for n in (1, 2, 3)] == [False, True, False]
    assert _queues(part("mixed", "host")) == 1 + 1 + 2
    for near, far in ((1, 2), (2, 3), (1, 3)):
        assert lab.node(near).run(["ping", "-c", "1", "-w", "5", "-s", "1400", f"10.0.0.{far}"]).ok


def test_a_lab_without_offload_carries_a_file_whole(labs: Labs) -> None:
    lab = labs.up(RING, overrides=["defaults.node.offload=off"])
    assert not any(_carries_super_packets(node) for node in lab.nodes)
    run = lab.run_scenario("weights-sync", params={"rounds": 1, "size": 3_000_000})
    assert run.verdict == "pass"


# Stands before `nm`: from here on no TUN device takes an offload, neither in this process nor in any that it
# starts. TUNSETOFFLOAD with anything but 0 is refused, as a kernel refuses what it does not know.
WITHOUT_OFFLOAD = """
import ctypes, platform, struct
ioctl = {"x86_64": 16, "aarch64": 29}[platform.machine()]
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
rules = [(LOAD, 0, 0, 0), (EQUAL, 0, 5, ioctl), (LOAD, 0, 0, 24), (EQUAL, 0, 3, 0x400454D0),
         (LOAD, 0, 0, 32), (EQUAL, 1, 0, 0), (RETURN, 0, 0, 0x00050016), (RETURN, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
program = ctypes.create_string_buffer(struct.pack("HP", len(rules), ctypes.addressof(code)))
assert ctypes.CDLL(None).prctl(22, 2, program, 0, 0) == 0
from orchestrator.cli.main import main
main()
"""


def test_a_kernel_without_offload_carries_ordinary_packets_and_says_so(nm: Nm, nm_home: Home) -> None:
    up = subprocess.run(
        [sys.executable, "-c", WITHOUT_OFFLOAD, "up", RING, "--backend", "native"],
        env={**os.environ, "NM_HOME": str(nm_home.path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert up.returncode == 0, up.stderr
    parts = nm("inspect", "-o", "json").json["parts"]
    (said,) = [each["detail"] for each in parts if each["part"] == "host"]
    assert "offload off (the self-test could not run" in said and "Invalid argument" in said
    assert "offload=" in nm("logs", "host").out
    run = nm("run", "scenario", "weights-sync", "-p", "rounds=1", "-p", "size=3 MB", "-o", "json")
    assert run.json["verdict"] == "pass"
    assert nm("down").code == 0


@pytest.mark.parametrize("shards", [1, 3])
def test_the_environment_says_how_many_threads_carry_packets(
    labs: Labs, part: Part, monkeypatch: pytest.MonkeyPatch, shards: int
) -> None:
    monkeypatch.setenv("NM_SHARDS", str(shards))
    monkeypatch.setenv("NM_PIN", "1")
    lab = labs.up(RING)
    threads = _shards(part("ring", "host"))
    assert sorted(threads) == list(range(shards))
    cores = os.cpu_count() or 1
    allowed = {index: len(os.sched_getaffinity(tid)) for index, tid in threads.items()}
    assert allowed == dict.fromkeys(threads, 1) or cores == 1
    assert lab.node(1).run(["ping", "-c", "1", "-w", "5", "node-3"]).ok


def test_a_word_that_is_no_number_of_threads_fails_the_start_by_name(
    labs: Labs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NM_SHARDS", "lots")
    with pytest.raises(NmError) as caught:
        labs.up(RING)
    assert any("NM_SHARDS is `lots`" in line for line in caught.value.render().splitlines())


@pytest.mark.timeout(240)  # the watchdog and two status rounds, on a busy machine
def test_a_thread_that_is_stalled_is_told_and_the_lab_recovers(
    labs: Labs, nm: Nm, part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    """64 nodes share a thread, so the last of 80 have one of their own."""
    monkeypatch.setenv("NM_SHARDS", "2")
    lab = labs.up("name: ring\ntopology: {type: ring, n_nodes: 80}\n")
    with _standing_still(_shards(part("ring", "host"))[0]):
        # Something for it to do: a thread that sleeps because there is nothing has not stalled.
        with suppress(NmError):
            lab.set_link(1, 2, LinkSpec(delay_us=1000))
        _until(lambda: lab.status().state == "degraded")
        said = nm("status").err
        assert (
            "packet thread of 64 nodes" in said
            and "is stalled" in said
            and "the other threads continue" in said
        )
        # Nodes are opened several at a time, so which are among the last is known, but not to the one.
        pairs = [(lab.node(n), f"10.0.0.{n + 1}") for n in range(72, 80)]
        assert any(node.run(["ping", "-c", "1", "-W", "2", remote]).ok for node, remote in pairs)
    _until(lambda: lab.status().state == "ready")
    assert lab.node(1).run(["ping", "-c", "1", "-w", "5", "node-3"]).ok


# SIOCETHTOOL with ETHTOOL_GTSO (linux/ethtool.h): the kernel is asked, not the product.
ASK_TSO = """
import fcntl, socket, struct, ctypes
answer = ctypes.create_string_buffer(struct.pack("II", 0x1E, 0))
request = struct.pack("16sP", b"utun", ctypes.addressof(answer)).ljust(40, b"\\0")
fcntl.ioctl(socket.socket(), 0x8946, request)
print(struct.unpack("II", answer.raw[:8])[1])
"""


def _carries_super_packets(node: Node) -> bool:
    done = node.run([sys.executable, "-c", ASK_TSO])
    assert done.ok, done.stderr
    return done.stdout.strip() == "1"


def _queues(process: ProcessId) -> int:
    """TUN queues that a process holds."""
    told = []
    for entry in Path(f"/proc/{process.pid}/fdinfo").iterdir():
        with suppress(OSError):
            told.append(entry.read_text())
    return sum("iff:\tutun" in each for each in told)


def _shards(process: ProcessId) -> dict[int, int]:
    """The packet threads of a host process, by index."""
    found = {}
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        name = (task / "comm").read_text().strip()
        if name.startswith("nm-shard-"):
            found[int(name.removeprefix("nm-shard-"))] = int(task.name)
    return found


@contextmanager
def _standing_still(tid: int) -> Iterator[None]:
    """Hold one thread as a debugger does; a signal would stop the whole process."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(PTRACE_SEIZE, tid, 0, 0) != 0:
        pytest.skip(f"cannot hold a thread: {os.strerror(ctypes.get_errno())}")
    assert libc.ptrace(PTRACE_INTERRUPT, tid, 0, 0) == 0
    os.waitpid(tid, 0x40000000)  # __WALL: threads too
    try:
        yield
    finally:
        libc.ptrace(PTRACE_DETACH, tid, 0, 0)


def _until(condition: Callable[[], bool], within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.1)
