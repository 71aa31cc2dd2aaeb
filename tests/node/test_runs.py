"""Test the state of a run in a process: numbered rows, waits across restarts of the controller."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from orchestrator.node.runs import Run
from orchestrator.protocol import Message
from orchestrator.protocol.messages import (
    BarrierEnter,
    ChangeLinks,
    LinksChanged,
    Lookup,
    RoleFinished,
    RoleReport,
    TimelineChange,
)
from orchestrator.protocol.messages.agent import PrepareRun
from tests.node.fakes import fake_node


class Posted:
    """Keeps what a run sends."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._changed = threading.Condition()

    def __call__(self, message: Message, node: int, durable: bool) -> None:
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[Message], bool], count: int = 1) -> list[Message]:
        def found() -> list[Message]:
            return [message for message in self.messages if condition(message)]

        with self._changed:
            assert self._changed.wait_for(lambda: len(found()) >= count, 20), self.messages
            return found()


def make_run(folder: Path, source: str, posted: Posted) -> Run:
    prepared = PrepareRun(
        run="r1",
        scenario="mine",
        files={"roles.py": source.encode()},
        entry="roles.py",
        params={"size": 3},
        seed=7,
        roles={"worker": (1, 2)},
        names={1: "a", 2: "b"},
        timeout_s=20,
    )
    return Run(prepared, folder, posted, lambda node: f"10.0.0.{node}")


def test_rows_are_numbered_by_node_and_the_end_is_told(tmp_path: Path) -> None:
    posted = Posted()
    run = make_run(tmp_path, "def worker(ctx):\n    ctx.report(a=1)\n    ctx.report(a=2)\n", posted)
    ended: list[int] = []
    for node in (1, 2):
        run.start(fake_node(node), "worker", ended.append)
    posted.wait_for(lambda message: isinstance(message, RoleFinished), 2)
    rows = [(each.node, each.seq) for each in posted.messages if isinstance(each, RoleReport)]
    assert sorted(rows) == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert run.running == []
    run.close()
    assert list(tmp_path.iterdir()) == []


def test_what_is_waited_for_is_asked_again(tmp_path: Path) -> None:
    posted = Posted()
    source = "def worker(ctx):\n    ctx.barrier('go')\n    assert ctx.lookup('key') == 5\n"
    run = make_run(tmp_path, source, posted)
    for node in (1, 2):
        run.start(fake_node(node), "worker", lambda _node: None)
    posted.wait_for(lambda message: isinstance(message, BarrierEnter), 2)
    run.ask_again()
    entered = posted.wait_for(lambda message: isinstance(message, BarrierEnter), 4)
    assert {(each.node, each.generation) for each in entered if isinstance(each, BarrierEnter)} == {
        (1, 1),
        (2, 1),
    }
    run.released("go", 1)
    run.released("go", 1)
    posted.wait_for(lambda message: isinstance(message, Lookup), 2)
    run.ask_again()
    posted.wait_for(lambda message: isinstance(message, Lookup), 4)
    run.published("key", 5)
    ends = posted.wait_for(lambda message: isinstance(message, RoleFinished), 2)
    assert all(each.ok for each in ends if isinstance(each, RoleFinished))


def test_out_of_time_says_what_was_waited_for(tmp_path: Path) -> None:
    posted = Posted()
    run = make_run(tmp_path, "def worker(ctx):\n    ctx.barrier('go')\n", posted)
    run.start(fake_node(1), "worker", lambda _node: None)
    posted.wait_for(lambda message: isinstance(message, BarrierEnter))
    run.time_out()
    (end,) = posted.wait_for(lambda message: isinstance(message, RoleFinished))
    assert isinstance(end, RoleFinished)
    assert end.error == "took longer than 20 s while waiting for barrier `go`"


def test_a_change_of_links_is_asked_again_until_it_is_answered(tmp_path: Path) -> None:
    posted = Posted()
    source = (
        "def worker(ctx):\n    ctx.link(1, 2).down()\n    try:\n        ctx.link(2, 1).up()\n"
        "    except Exception as error:\n        ctx.report(id=error.id)\n"
    )
    run = make_run(tmp_path, source, posted)
    run.start(fake_node(1), "worker", lambda _node: None)
    posted.wait_for(lambda message: isinstance(message, ChangeLinks))
    run.ask_again()
    asked = posted.wait_for(lambda message: isinstance(message, ChangeLinks), 2)
    assert asked[0] == asked[1] == ChangeLinks("r1", 1, 1, TimelineChange(0, "down", 1, 2))
    for _ in range(2):
        run.answered(LinksChanged("r1", 1, 1))
    posted.wait_for(lambda message: isinstance(message, ChangeLinks) and message.number == 2)
    run.answered(LinksChanged("r1", 1, 2, "there is no link 2–1", "link.unknown"))
    (row,) = posted.wait_for(lambda message: isinstance(message, RoleReport))
    assert isinstance(row, RoleReport) and row.row["id"] == "link.unknown"
