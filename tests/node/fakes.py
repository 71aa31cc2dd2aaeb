"""A fake node and a fake controller."""

from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

from orchestrator.node.context import Context
from orchestrator.node.nodes import Node
from orchestrator.node.program import Program
from orchestrator.node.roles import Outcome, RoleThread
from orchestrator.protocol.messages import TimelineChange


class FakeDataplane:
    """A dataplane whose topology is always ready."""

    offload = "full"

    def __init__(self) -> None:
        self.closed = False

    def wait_for_topology_ready(self, timeout_ms: int | None = None) -> bool:
        return True

    def close(self) -> None:
        self.closed = True

    def interrupt(self) -> None:
        pass


class FakeWire:
    """Keeps what a role says; futures are left for the test to settle."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.lines: list[tuple[str, str]] = []
        self.values: dict[str, Any] = {}
        self.barriers: dict[str, Future[None]] = {}
        self.lookups: dict[str, Future[Any]] = {}
        self.changes: list[tuple[TimelineChange, Future[None]]] = []
        self.asked: queue.Queue[str] = queue.Queue()

    def report(self, node: int, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def log(self, node: int, level: str, text: str) -> None:
        self.lines.append((level, text))

    def progress(self, node: int, done: float, total: float) -> None:
        self.lines.append(("progress", f"{done}/{total}"))

    def publish(self, node: int, key: str, value: Any) -> None:
        self.values[key] = value

    def change_links(self, node: int, change: TimelineChange) -> Future[None]:
        future: Future[None] = Future()
        self.changes.append((change, future))
        self.asked.put(change.do)
        return future

    def barrier(self, node: int, name: str) -> Future[None]:
        self.barriers[name] = future = Future()
        self.asked.put(name)
        return future

    def lookup(self, node: int, key: str) -> Future[Any]:
        self.lookups[key] = future = Future()
        self.asked.put(key)
        return future


def context(wire: FakeWire, **params: Any) -> Context:
    """A context of node 2 in a lab of three."""
    return Context(
        dataplane=cast(Any, FakeDataplane()),
        node=2,
        role="worker",
        params=params,
        seed=7,
        roles={"trainer": (1,), "worker": (3, 2)},
        names={1: "a", 2: "b", 3: "c"},
        addresses={1: "10.0.0.1", 2: "10.0.0.2", 3: "10.0.0.3"},
        addresses6={node: f"fd00::{node}" for node in (1, 2, 3)},
        wire=wire,
    )


def program(folder: Path, source: str, **others: str) -> Program:
    """A scenario whose roles are `source`, with other files beside it."""
    files = {"roles.py": source.encode(), **{name: text.encode() for name, text in others.items()}}
    return Program("run-1", files, "roles.py", folder)


class RoleRun:
    """Runs one role and gives its outcome."""

    def __init__(
        self, folder: Path, source: str, wire: FakeWire, enter: Callable[[], None] = lambda: None
    ) -> None:
        self.outcomes: queue.Queue[Outcome] = queue.Queue()
        self.thread = RoleThread(context(wire), program(folder, source), enter, self.outcomes.put)
        self.thread.start()

    def outcome(self) -> Outcome:
        return self.outcomes.get(timeout=20)


def fake_node(number: int) -> Node:
    """A node without a namespace."""
    return Node(number, cast(Any, FakeDataplane()), None)
