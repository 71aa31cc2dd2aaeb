# ruff: noqa: E501  # roles are short programs, and read better in few lines
"""Test that everything a run opened ends with the run.

One lab serves all tests of this file. Each runs a role that behaves badly in one way, looks how the run ended and
what is left of it, and then runs a scenario that uses everything a bad role could have kept: a flow's receiver, a
group, transfers, barriers, a port.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator import procfs
from orchestrator.deploy import state as notes
from orchestrator.deploy.home import Home
from orchestrator.lab import Lab
from orchestrator.results import RunOutcome
from tests.integration.conftest import RING, Nm, shared_lab
from tests.integration.waiting import all_wait, run_in, until

STAND_IN = "31415.92653"
MARK = f"31415.{os.getpid()}"
"""The argument of `sleep` by which the processes of this run of the tests are found; in the sources of roles
the stand-in is written for it."""

CLEAN = """
import hashlib, os, socket, threading

BYTES = hashlib.shake_128(b"clean").digest(200_000)


def source(ctx):
    assert os.getcwd() != "/tmp" and "NM_TEST_LEFT" not in os.environ
    assert threading.active_count() < 25, sorted(thread.name for thread in threading.enumerate())
    dp = ctx.dataplane
    assert next(dp.events(timeout_ms=0), None) is None
    listener = socket.create_server(("0.0.0.0", 5000))
    receiver = dp.register_receiver_from_node(2)
    dp.create_group("owned")
    group_id, group_ip, _ = dp.group_is_ready(timeout_ms=10_000)
    ctx.publish("group", [group_id, group_ip])
    ctx.barrier("joined")
    dp.compute_group_routes(group_id, ctx.nodes("sink"))
    assert dp.wait_for_group_routes(group_id, ctx.node, timeout_ms=10_000)
    session = dp.send_data(group_id, group_ip, ctx.nodes("sink"), BYTES)
    assert dp.lossless_wait(session, timeout_ms=20_000), dp.lossless_result(session)
    assert receiver.recv(timeout_ms=10_000).payload == b"hello"
    ctx.barrier("done")
    listener.close()
    ctx.report(ok=True)


def sink(ctx):
    dp = ctx.dataplane
    group_id, group_ip = ctx.lookup("group", timeout=20)
    dp.join_group(group_id)
    assert dp.wait_for_local_membership(group_id, timeout_ms=10_000)
    session = dp.receive_data(group_id, group_ip, 1, len(BYTES))
    ctx.barrier("joined")
    assert dp.lossless_wait(session, timeout_ms=20_000), dp.lossless_result(session)
    assert bytes(dp.get_data_buffer(session)) == BYTES
    if ctx.node == 2:
        dp.send_to_node(1, b"hello")
    ctx.barrier("done")
    ctx.report(ok=True)
"""

WAITING = (
    f"MARK = {MARK!r}\n"
    + '''
import socket, subprocess, threading, time


def waiter(ctx):
    """Open one of everything, in an order that no test depends on, and wait."""
    dp = ctx.dataplane
    kept = [dp.register_receiver_from_node(node) for node in ctx.nodes() if node != ctx.node]
    if ctx.node == 1:
        dp.create_group("owned")
        group_id, group_ip, _ = dp.group_is_ready(timeout_ms=10_000)
        ctx.publish("group", [group_id, group_ip])
        kept.append(socket.create_server(("0.0.0.0", 5000)))
    else:
        group_id, group_ip = ctx.lookup("group", timeout=20)
        dp.join_group(group_id)
        kept.append(dp.receive_data(group_id, group_ip, 1, 1_000_000))
    subprocess.Popen(["setsid", "sleep", MARK])
    subprocess.run(["sh", "-c", f"(setsid sleep {MARK} &) &"])
    threading.Thread(target=lambda: [time.sleep(0.01) for _ in iter(int, 1)], daemon=True).start()
    if ctx.node == 1:
        kept.append(dp.send_data(group_id, group_ip, [2, 3, 4], bytes(1_000_000)))
    ctx.report(started=True)
    if ctx.node == 2:
        kept[0].recv()
    elif ctx.node == 3:
        dp.lossless_wait(kept[-1])
    elif ctx.node == 4:
        dp.group_is_ready(label="never")
    ctx.lookup("never")
'''
)


# Whatever dies stays dead until `nm up`: what a death leaves is looked at here.
lab = shared_lab(RING, name="owned", restart=False)


@pytest.fixture(autouse=True)
def repaired(lab: Lab, home: Home, tmp_path: Path) -> Iterator[None]:
    """A test that failed before it repaired the lab is not the reason why the next one fails."""
    yield
    if lab.status().state != "ready":
        Nm(home, tmp_path)("up", RING, "-n", "owned", "--backend", "native")


def write(folder: Path, source: str, roles: dict[str, object], timeout: str = "30 s") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    listed = "".join(f"  {role}: {{nodes: {nodes}}}\n" for role, nodes in roles.items())
    (folder / "scenario.yaml").write_text(
        f"name: {folder.name}\nsummary: a test\nroles:\n{listed}timeout: {timeout}\n"
    )
    (folder / "roles.py").write_text(source.replace(STAND_IN, MARK))
    return folder


def run_bad(lab: Lab, tmp_path: Path, source: str, timeout: str = "30 s") -> RunOutcome:
    """Run a role `bad` in node 1."""
    scenario = write(tmp_path / "bad", source, {"bad": 1}, timeout)
    return lab.run_scenario(str(scenario), results=tmp_path / "bad-results")


def run_clean(lab: Lab, tmp_path: Path) -> None:
    scenario = write(tmp_path / "clean", CLEAN, {"source": 1, "sink": "rest"})
    outcome = lab.run_scenario(str(scenario), results=tmp_path / "clean")
    assert outcome.verdict == "pass", (outcome.reason, outcome.failures)
    assert len(outcome.rows) == 4


def marked() -> list[int]:
    """The processes that a role started and that carry the mark."""
    return [pid for pid in procfs.pids() if MARK in procfs.command(pid)]


def host_pid(home: Home) -> int:
    note = notes.read(home.lab("owned"))
    assert note is not None
    return note.parts["host"].pid


EPOLL = """
import os, select, time
def bad(ctx):
    for fd in os.listdir("/proc/self/fd"):
        try:
            link = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if link == "anon_inode:[eventpoll]":
"""

# How the role ends, and a part of what is said about it; empty where the run is to pass.
BAD = {
    "setsid sleep": (
        "import subprocess\ndef bad(ctx): subprocess.Popen(['setsid', 'sleep', '31415.92653'])",
        "",
    ),
    "a double fork": (
        "import subprocess\ndef bad(ctx):\n    subprocess.run(['sh', '-c', '(env -i setsid sleep 31415.92653 &) &'])",
        "",
    ),
    "two hundred children": (
        "import subprocess\ndef bad(ctx):\n    kept = [subprocess.Popen(['sleep', '31415.92653']) for _ in range(200)]",
        "",
    ),
    "a child that ignores SIGTERM": (
        "import subprocess\ndef bad(ctx):\n"
        "    subprocess.Popen(['sh', '-c', 'trap \"\" TERM; sleep 31415.92653; sleep 31415.92653'])",
        "",
    ),
    "a child in a network of its own": (
        "import subprocess\ndef bad(ctx):\n"
        "    subprocess.run(['sh', '-c', '(setsid unshare -n sleep 31415.92653 &) &'])",
        "",
    ),
    "a fork that outlives the role": (
        "import os, time\ndef bad(ctx):\n    if os.fork() == 0:\n        time.sleep(3600)\n    ctx.report(parent=True)",
        "",
    ),
    "a fork that returns": (
        "import os\ndef bad(ctx):\n    pid = os.fork()\n    if pid == 0:\n        return\n"
        "    assert os.waitpid(pid, 0)[1] == 0\n    ctx.report(parent=True)",
        "",
    ),
    "a fork that raises": (
        "import os\ndef bad(ctx):\n    pid = os.fork()\n    if pid == 0:\n        raise ValueError('child')\n"
        "    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1",
        "",
    ),
    "a fork that uses ctx": (
        "import os\ndef bad(ctx):\n    pid = os.fork()\n    if pid == 0:\n        code = 0\n"
        "        for use in (lambda: ctx.report(a=1), lambda: ctx.dataplane.statistics()):\n"
        "            try:\n                use()\n            except Exception as error:\n"
        "                code += 'forked' in error.id\n        os._exit(code)\n"
        "    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 2",
        "",
    ),
    "a fork that closes all": (
        "import os\ndef bad(ctx):\n    pid = os.fork()\n    if pid == 0:\n        os.closerange(3, 4096)\n"
        "        os._exit(0)\n    os.waitpid(pid, 0)",
        "",
    ),
    "multiprocessing": (
        "import multiprocessing\ndef bad(ctx):\n    mp = multiprocessing.get_context('fork')\n    q = mp.Queue()\n"
        "    p = mp.Process(target=q.put, args=(5,)); p.start()\n    assert q.get(timeout=10) == 5\n    p.join()",
        "",
    ),
    "sys.exit": ("import sys\ndef bad(ctx): sys.exit()", ""),
    "sys.exit(3)": ("import sys\ndef bad(ctx): sys.exit(3)", "SystemExit: 3"),
    "KeyboardInterrupt": ("def bad(ctx): raise KeyboardInterrupt", "KeyboardInterrupt"),
    "BaseException": ("class Mine(BaseException): pass\ndef bad(ctx): raise Mine('x')", "Mine: x"),
    "an unprintable exception": (
        "class Mine(Exception):\n    def __str__(self): raise ValueError\ndef bad(ctx): raise Mine",
        "Mine",
    ),
    "an exception with a surrogate": (
        "def bad(ctx): raise ValueError('a\\ud800b\\0c')",
        "ValueError: a\ufffdb\ufffdc",
    ),
    "a huge exception": ("def bad(ctx): raise ValueError('x' * 5_000_000)", "cut here"),
    "a recursion": ("def bad(ctx): bad(ctx)", "RecursionError"),
    "a thread that goes on": (
        "import threading, time\ndef go():\n    while True:\n        time.sleep(0.01)\n"
        "def bad(ctx): threading.Thread(target=go).start()",
        "",
    ),
    "a thread that reports late": (
        "import threading, time\ndef go(ctx):\n    while True:\n        ctx.report(late=1)\n        time.sleep(0.01)\n"
        "def bad(ctx): threading.Thread(target=go, args=(ctx,), daemon=True).start()",
        "",
    ),
    "a thread that waits on a socket": (
        "import socket, threading\ndef bad(ctx):\n    server = socket.create_server(('0.0.0.0', 5000))\n"
        "    threading.Thread(target=server.accept).start()",
        "",
    ),
    "a pool that is not shut down": (
        "from concurrent.futures import ThreadPoolExecutor\nPOOL = ThreadPoolExecutor(4)\n"
        "def bad(ctx): list(POOL.map(abs, range(8)))",
        "",
    ),
    "an async role with tasks left": (
        "import asyncio\nasync def go():\n    while True:\n        await asyncio.sleep(0.01)\n"
        "async def bad(ctx):\n    global kept\n    kept = asyncio.create_task(go())\n    await asyncio.sleep(0)",
        "",
    ),
    "chdir, umask, environment": (
        "import os\ndef bad(ctx): os.chdir('/tmp'); os.umask(0o777); os.environ['NM_TEST_LEFT'] = '1'",
        "",
    ),
    "closed standard streams": ("import os\ndef bad(ctx):\n    for fd in (0, 1, 2): os.close(fd)", ""),
    "sys.stdout replaced": ("import io, sys\ndef bad(ctx): sys.stdout = sys.stderr = io.StringIO()", ""),
    "modules deleted": (
        "import sys\ndef bad(ctx):\n    for name in ('json', 'socket', 'threading'): sys.modules.pop(name, None)",
        "",
    ),
    "a signal handler": (
        "import signal\ndef bad(ctx): signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        "signal only works in main thread",
    ),
    "ctx.dataplane.close": ("def bad(ctx): ctx.dataplane.close()", ""),
    "a dataplane after its close": (
        "def bad(ctx):\n    ctx.dataplane.close()\n    ctx.dataplane.send_to_node(2, b'x')",
        "NodeClosed",
    ),
    "limits on resources": (
        "import resource\ndef bad(ctx):\n    for what, limit in ((resource.RLIMIT_NPROC, 1), (resource.RLIMIT_FSIZE, 0)):\n"
        "        resource.setrlimit(what, (limit, resource.getrlimit(what)[1]))",
        "",
    ),
    "traces and settings of the interpreter": (
        "import gc, sys, threading, warnings\ndef trace(*_): raise ValueError('trace')\n"
        "def bad(ctx):\n    gc.disable(); sys.setswitchinterval(1.0); warnings.simplefilter('error')\n"
        "    threading.settrace(trace); threading.setprofile(trace)",
        "",
    ),
    "functions replaced": (
        "import json, asyncio, threading, time, nextmini_py\ndef bad(ctx):\n    json.dumps = asyncio.run = threading.Thread.start = None\n"
        "    time.time = lambda: 0.0\n    type(ctx).report = type(ctx).publish = nextmini_py.Dataplane.send_data = None",
        "",
    ),
    "a fork bomb of 200": (
        "import os, time\ndef bad(ctx):\n    for _ in range(200):\n        if os.fork() == 0:\n            time.sleep(100); os._exit(0)",
        "",
    ),
    "500 threads": (
        "import threading, time\ndef go():\n    while True: time.sleep(0.05)\n"
        "def bad(ctx):\n    for _ in range(500): threading.Thread(target=go, daemon=True).start()",
        "",
    ),
    "a gigabyte of memory": ("import mmap\ndef bad(ctx): mmap.mmap(-1, 1 << 30)[:: 1 << 22]", ""),
    "20,000 published values": (
        "def bad(ctx):\n    for n in range(20_000): ctx.publish(f'k{n}', n)",
        "",
    ),
    "a working directory that is gone": (
        "import os, tempfile\ndef bad(ctx):\n    folder = tempfile.mkdtemp(); os.chdir(folder); os.rmdir(folder)",
        "",
    ),
    "an exception with 20,000 causes": (
        "def bad(ctx):\n    error = None\n    for _ in range(20_000):\n        then = ValueError('x'); then.__cause__ = error; error = then\n    raise error",
        "ValueError: x",
    ),
    "waitpid for any child": (
        "import os, subprocess\ndef bad(ctx):\n    subprocess.Popen(['true'])\n    try:\n        while True: os.waitpid(-1, 0)\n"
        "    except ChildProcessError: pass",
        "",
    ),
    "a reserved key": ("def bad(ctx): ctx.report(node=99, role='ghost')", "may not set `node`"),
    "a generator of rows": ("def bad(ctx):\n    for n in range(300): ctx.report(n=n, pad='x' * 1000)", ""),
    "a receiver twice": (
        "def bad(ctx):\n    a = ctx.dataplane.register_receiver_from_node(2)\n"
        "    b = ctx.dataplane.register_receiver_from_node(2)",
        "InvalidArgument",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_role_that_leaves_something(lab: Lab, home: Home, tmp_path: Path, name: str) -> None:
    source, said = BAD[name]
    before = host_pid(home)
    outcome = run_bad(lab, tmp_path, source)
    assert outcome.verdict == ("error" if said else "pass"), (outcome.reason, outcome.failures)
    if said:
        assert said in outcome.failures[0].error
        assert outcome.failures[0].traceback
    assert marked() == []
    run_clean(lab, tmp_path)
    assert host_pid(home) == before and lab.status().state == "ready"


@pytest.mark.parametrize("seed", range(20))
def test_an_aborted_run_leaves_nothing(lab: Lab, home: Home, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    out = tmp_path / "out"
    scenario = write(tmp_path / "waiting", WAITING, {"waiter": "all"})
    nm = Nm(home, tmp_path)
    run = nm.start("run", "scenario", scenario, "--results", out)
    if chance.random() < 0.7:
        until(lambda: all_wait(out, chance.randint(1, 4)))
    else:
        until(lambda: (run_in(out) / "events.jsonl").exists())
    time.sleep(chance.uniform(0, 0.3))  # the moment is what varies
    run.send_signal(chance.choice((signal.SIGINT, signal.SIGTERM)))
    _, err = run.communicate(timeout=30)
    assert run.returncode in (130, -signal.SIGINT, -signal.SIGTERM), err
    assert json.loads((run_in(out) / "run.json").read_text())["reason"] == "interrupted"
    until(lambda: not marked(), 5)
    if seed % 4 == 3:
        run_clean(lab, tmp_path)


def test_a_call_that_never_returns_degrades_its_node_until_up_repairs_it(
    lab: Lab, home: Home, tmp_path: Path
) -> None:
    source = "import time\ndef bad(ctx): time.sleep(3600)"
    outcome = run_bad(lab, tmp_path, source, timeout="1 s")
    assert outcome.verdict == "error" and "abandoned" in outcome.failures[0].error
    until(lambda: lab.status().state == "degraded", 10)
    node = lab.status().nodes[0]
    assert node.state == "degraded" and "bad@1" in node.why
    assert lab.status().nodes[1].state == "ready"
    run_clean(lab, tmp_path)  # what is left cannot be used any more
    before = host_pid(home)
    said = Nm(home, tmp_path)("up", RING, "-n", "owned", "--backend", "native", "-o", "json")
    assert said.code == 0 and said.json["state"] == "ready", said.err
    assert host_pid(home) != before
    run_clean(lab, tmp_path)


@pytest.mark.parametrize(
    "source",
    [
        "import os\ndef bad(ctx): os.closerange(3, 4096)",
        "import os, time\ndef bad(ctx):\n    os.closerange(3, 4096)\n    time.sleep(3600)",
        EPOLL + "            os.close(int(fd))",
        EPOLL + "            other = select.epoll()\n            os.dup2(other.fileno(), int(fd))",
        EPOLL + "            os.close(int(fd))\n    time.sleep(3600)",
        EPOLL.replace("eventpoll", "eventfd") + "            os.close(int(fd))",
        "import os\ndef bad(ctx): os._exit(0)",
        "import os, signal\ndef bad(ctx): os.kill(os.getpid(), signal.SIGKILL)",
    ],
)
def test_a_damaged_host_ends_and_up_replaces_it(lab: Lab, home: Home, tmp_path: Path, source: str) -> None:
    outcome = run_bad(lab, tmp_path, source)
    assert outcome.verdict == "error" and "its process is gone" in outcome.reason
    assert lab.status().state == "degraded"
    said = Nm(home, tmp_path)("up", RING, "-n", "owned", "--backend", "native", "-o", "json")
    assert said.code == 0 and said.json["state"] == "ready", said.err
    assert "already" not in said.err
    run_clean(lab, tmp_path)


def test_what_a_run_left_when_its_host_was_killed_ends_with_up(lab: Lab, home: Home, tmp_path: Path) -> None:
    source = (
        "import os, signal, subprocess\ndef bad(ctx):\n    subprocess.Popen(['setsid', 'sleep', '31415.92653'])\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert run_bad(lab, tmp_path, source).verdict == "error"
    assert Nm(home, tmp_path)("up", RING, "-n", "owned", "--backend", "native").code == 0
    assert marked() == []
    run_clean(lab, tmp_path)


def test_what_a_role_prints_without_end_holds_nobody_up(lab: Lab, tmp_path: Path) -> None:
    source = (
        "import sys\ndef bad(ctx):\n    sys.stdout.write('y' * 100_000_000 + '\\n')\n"
        "    line = 'z' * 99 + '\\n'\n    for _ in range(1000): sys.stdout.write(line * 1000)\n"
        "    ctx.log('w' * 20_000_000)\n    ctx.report(done=True)"
    )
    outcome = run_bad(lab, tmp_path, source, timeout="60 s")
    assert outcome.verdict == "pass", (outcome.reason, outcome.seconds)
    log = (run_in(tmp_path / "bad-results") / "logs" / "node-1-bad.log").read_text()
    assert "characters were cut here" in log and "were left out" in log
    assert len(log) < 5_000_000
    run_clean(lab, tmp_path)


def test_nothing_is_left_of_the_tests_of_this_file(lab: Lab, home: Home) -> None:
    """The host has no child, and no more threads and descriptors than nodes and an agent need."""
    at = Path(f"/proc/{host_pid(home)}")
    children = "".join(file.read_text() for file in at.glob("task/*/children"))
    assert children == ""
    assert len(list(at.glob("task/*"))) < 25
    assert len(list((at / "fd").iterdir())) < 120
