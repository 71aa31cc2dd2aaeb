"""Test the thread of a role, and how it ends."""

from __future__ import annotations

import errno
import threading
import time
from pathlib import Path

import pytest

from orchestrator.node import roles
from orchestrator.node.context import RoleStopped
from tests.node.fakes import FakeWire, RoleRun


def test_plain_and_async_roles_end_well(tmp_path: Path) -> None:
    wire = FakeWire()
    assert RoleRun(tmp_path, "def worker(ctx): ctx.report(kind='plain')", wire).outcome().ok
    source = (
        "import asyncio\nasync def worker(ctx):\n    await asyncio.sleep(0)\n    ctx.report(kind='async')"
    )
    assert RoleRun(tmp_path, source, wire).outcome().ok
    assert [row["kind"] for row in wire.rows] == ["plain", "async"]


def test_a_role_that_raises_is_named_with_its_own_traceback(tmp_path: Path) -> None:
    source = "def worker(ctx):\n    broken()\n\ndef broken():\n    raise ValueError('no such luck')\n"
    outcome = RoleRun(tmp_path, source, FakeWire()).outcome()
    assert not outcome.ok
    assert outcome.error == "ValueError: no such luck"
    assert 'File "roles.py", line 5, in broken' in outcome.traceback
    assert "orchestrator" not in outcome.traceback


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("def trainer(ctx): pass", "has no function `worker`"),
        ("def worker(ctx:", "SyntaxError"),
        ("import a_module_that_is_not_there", "ModuleNotFoundError"),
        ("def worker(ctx): raise SystemExit(3)", "SystemExit"),
        ("worker = 5", "has no function `worker`"),
    ],
)
def test_code_that_cannot_run_is_an_outcome_too(tmp_path: Path, source: str, complaint: str) -> None:
    outcome = RoleRun(tmp_path, source, FakeWire()).outcome()
    assert not outcome.ok
    assert complaint in outcome.error


def test_a_node_that_cannot_be_entered_is_an_outcome(tmp_path: Path) -> None:
    def refuse() -> None:
        raise PermissionError("setns")

    outcome = RoleRun(tmp_path, "def worker(ctx): pass", FakeWire(), refuse).outcome()
    assert outcome.error == "PermissionError: setns"


def test_a_role_that_waits_is_stopped_at_once(tmp_path: Path) -> None:
    wire = FakeWire()
    run = RoleRun(tmp_path, "def worker(ctx):\n    ctx.barrier('never')", wire)
    wire.asked.get(timeout=10)
    started = time.monotonic()
    run.thread.stop("no longer needed")
    assert run.outcome().error == "no longer needed"
    assert time.monotonic() - started < roles.STOP_GRACE_S


def test_a_role_that_computes_is_stopped(tmp_path: Path) -> None:
    wire = FakeWire()
    source = (
        "def worker(ctx):\n    ctx.log('on')\n    while True:\n        try:\n            pass\n"
        "        except Exception:\n            pass\n"
    )
    run = RoleRun(tmp_path, source, wire)
    until(lambda: bool(wire.lines))
    run.thread.stop("enough")
    assert run.outcome().error == "enough"


def test_an_async_role_is_cancelled(tmp_path: Path) -> None:
    wire = FakeWire()
    source = (
        "import asyncio\nasync def worker(ctx):\n    ctx.log('on')\n    try:\n"
        "        await asyncio.sleep(60)\n"
        "    finally:\n        ctx.log('cleaned')\n"
    )
    run = RoleRun(tmp_path, source, wire)
    until(lambda: bool(wire.lines))
    run.thread.stop("enough")
    assert run.outcome().error == "enough"
    assert ("info", "cleaned") in wire.lines


def test_a_role_in_foreign_code_is_abandoned_and_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roles, "STOP_GRACE_S", 0.1)
    release = threading.Event()
    wire = FakeWire()

    def never_returns(node: int, key: str, value: object) -> None:
        wire.log(node, "info", key)
        release.wait(20)

    wire.publish = never_returns  # type: ignore[method-assign]  # stands for a call into foreign code
    run = RoleRun(tmp_path, "def worker(ctx): ctx.publish('x', 1)", wire)
    until(lambda: bool(wire.lines))
    run.thread.stop("enough")
    assert "was abandoned" in run.outcome().error
    release.set()


def test_children_end_with_their_role(tmp_path: Path) -> None:
    source = (
        "import subprocess\ndef worker(ctx):\n    child = subprocess.Popen(['sleep', '60'])\n"
        "    ctx.report(pid=child.pid)\n"
    )
    wire = FakeWire()
    assert RoleRun(tmp_path, source, wire).outcome().ok
    assert not Path(f"/proc/{wire.rows[0]['pid']}").exists()


def test_a_role_ends_when_its_processes_cannot_be_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("orchestrator.node.children.end", fail)
    wire = FakeWire()
    assert RoleRun(tmp_path, "def worker(ctx): pass", wire).outcome().ok
    assert [(level, "Too many open files" in line) for level, line in wire.lines] == [("warning", True)]


def test_a_role_that_waits_for_a_child_is_stopped(tmp_path: Path) -> None:
    wire = FakeWire()
    source = "import subprocess\ndef worker(ctx):\n    ctx.log('on')\n    subprocess.run(['sleep', '60'])\n"
    run = RoleRun(tmp_path, source, wire)
    until(lambda: bool(wire.lines))
    run.thread.stop("enough")
    assert run.outcome().error == "enough"


def test_what_a_role_prints_is_its_log(tmp_path: Path) -> None:
    from orchestrator.node import output

    output.install()
    wire = FakeWire()
    source = "def worker(ctx):\n    print('one', end='')\n    print(' line')\n    print('rest', end='')\n"
    assert RoleRun(tmp_path, source, wire).outcome().ok
    assert wire.lines == [("info", "one line"), ("info", "rest")]


def test_stopped_is_no_exception() -> None:
    assert not issubclass(RoleStopped, Exception)


def until(condition: object, limit_s: float = 10) -> None:
    """Wait for something that another thread does."""
    assert callable(condition)
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
