"""Give each run its own view of a dataplane, whose receivers and transfers are closed together.

Several runs use a node one after the other. A receiver, receive call or membership that one of them left open
would take messages, transfers or traffic of the next. So each run gets a `RunDataplane` of its own, which
records what is opened through it.

The calls are recorded at the native node, below `Dataplane`, so that new methods of `Dataplane` are covered
too.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast
from weakref import WeakSet

from nextmini_py._dataplane import Dataplane
from nextmini_py._native import Node, Receiver, Waker
from nextmini_py.errors import NextminiError, NodeClosed

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from nextmini_py._native import Answer, PacketView

__all__ = ["RunDataplane"]

_T = TypeVar("_T")

SLICE_MS = 100
"""How long a wait stays in native code before it looks whether the run has ended: below what a person
notices, and rare enough to cost nothing."""

KEPT_SESSIONS = 256
"""How many transfers are noted before those that have ended are forgotten."""


class RunDataplane(Dataplane):
    """A `Dataplane` whose node is not closed with it.

    `close` ends what was opened through this object, not the node.

    Args:
        dataplane: The node's own handle.
    """

    def __init__(self, dataplane: Dataplane) -> None:
        self._config_path = dataplane._config_path
        self._run_node = _RunNode(dataplane._node)
        self._node = cast("Node", self._run_node)

    def interrupt(self) -> None:
        """End transfers and receivers, so that waits for them return; other calls stay possible."""
        self._run_node.interrupt()

    def close(self) -> None:
        """End what was opened through this object; every later call raises `NodeClosed`. Twice is fine."""
        self._run_node.close()


class _RunNode:
    """Passes calls on to a native node and notes what they open.

    Calls that open nothing are bound directly, so that they cost what they cost without it.
    """

    def __init__(self, node: Node) -> None:
        self._native = node
        self._lock = threading.Lock()
        self._ended = False
        self._receivers: WeakSet[Receiver] = WeakSet()
        self._sessions: set[int] = set()
        self._joined: set[int] = set()
        self._installed_trees: set[int] = set()
        self._label: str | None = None
        self._created = threading.Event()
        for name in _FORWARDED:
            setattr(self, name, getattr(node, name))
        while node.event() is not None:
            pass  # earlier events belong to other runs
        _open.add(self)

    # ---- closing

    def interrupt(self) -> None:
        """See `RunDataplane.interrupt`."""
        with self._lock:
            receivers, sessions = list(self._receivers), list(self._sessions)
        for receiver in receivers:
            receiver.close()
        for session in sessions:
            self._clean_up(partial(self._native.cancel_session, session))

    def close(self) -> None:
        """See `RunDataplane.close`."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
            for name in _FORWARDED:
                setattr(self, name, _closed)
        _open.discard(self)
        self.interrupt()
        for group in self._installed_trees:  # while it is still a member, who may do so
            self._clean_up(partial(self._native.set_group_routes_multi, group, []))
        for group in self._joined:
            self._clean_up(partial(self._native.leave_group, group))

    def abandon(self) -> None:
        """End it in a forked child, where no thread of the node exists: no peer is notified."""
        self._lock = threading.Lock()  # another thread may have held the old one during the fork
        self._ended = True
        for name in _FORWARDED:
            setattr(self, name, _forked)

    @property
    def closed(self) -> bool:
        """Whether the run has ended, or the node is closed."""
        return self._ended or self._native.closed

    @property
    def node_id(self) -> int:
        return self._native.node_id

    @property
    def offload(self) -> str:
        return self._native.offload

    # ---- calls that open something

    def register_receiver(
        self,
        src_node_id: int,
        group_ip: str | None = None,
        src_port: int | None = None,
        dst_port: int | None = None,
    ) -> Receiver:
        self._require_open()
        receiver = self._native.register_receiver(src_node_id, group_ip, src_port, dst_port)
        with self._lock:
            self._receivers.add(receiver)
            late = self._ended
        if late:
            receiver.close()
            _closed()
        return receiver

    def send_data(
        self,
        group_id: int,
        dest_ip: str,
        receiver_ids: list[int],
        buffer: PacketView | Buffer,
        chunk_size: int,
    ) -> int:
        self._require_open()
        return self._session(self._native.send_data(group_id, dest_ip, receiver_ids, buffer, chunk_size))

    def receive_data(
        self, group_id: int, dest_ip: str, source_node_id: int, expected_bytes: int, chunk_size: int
    ) -> int:
        self._require_open()
        session = self._native.receive_data(group_id, dest_ip, source_node_id, expected_bytes, chunk_size)
        return self._session(session)

    def session_data(self, session_id: int, consume: bool) -> PacketView:
        self._require_open()
        view = self._native.session_data(session_id, consume)
        if consume:
            with self._lock:
                self._sessions.discard(session_id)
        return view

    def join_group(self, group_id: int, wait_ms: int) -> Answer:
        self._require_open()
        if not self._native.is_member(group_id):
            with self._lock:
                self._joined.add(group_id)
        return self._answer(self._native.join_group(group_id, wait_ms))

    def leave_group(self, group_id: int) -> None:
        self._require_open()
        self._native.leave_group(group_id)
        with self._lock:
            self._joined.discard(group_id)

    def create_group(self, label: str) -> Answer:
        self._require_open()
        answer = self._native.create_group(label)
        self._label = label
        self._created.set()
        return self._answer(answer)

    def set_group_routes(self, group_id: int, edges: list[tuple[int, int]]) -> Answer:
        self._require_open()
        with self._lock:
            self._installed_trees.add(group_id)
        return self._answer(self._native.set_group_routes(group_id, edges))

    def set_group_routes_multi(self, group_id: int, trees: list[tuple[int, list[tuple[int, int]]]]) -> Answer:
        self._require_open()
        with self._lock:
            self._installed_trees.add(group_id)
        return self._answer(self._native.set_group_routes_multi(group_id, trees))

    def compute_group_routes(self, group_id: int, receivers: list[int], kind: str) -> Answer:
        self._require_open()
        with self._lock:
            self._installed_trees.add(group_id)
        return self._answer(self._native.compute_group_routes(group_id, receivers, kind))

    # ---- calls that wait

    def group(self, label: str | None = None) -> tuple[int, str, int] | None:
        self._require_open()
        wanted = label or self._label
        return None if wanted is None else self._native.group(wanted)

    def wait_for_group(
        self, timeout_ms: int | None = None, label: str | None = None
    ) -> tuple[int, str, int] | None:
        def look(limit_ms: int) -> tuple[int, str, int] | None:
            wanted = label or self._label
            if wanted is not None:
                return self._native.wait_for_group(limit_ms, wanted)
            self._created.wait(limit_ms / 1000)  # none of this run so far; those of others are not meant
            return None

        return self._until(look, timeout_ms)

    def wait_for_topology_ready(self, timeout_ms: int | None = None) -> bool:
        found = self._until(lambda ms: self._native.wait_for_topology_ready(ms) or None, timeout_ms)
        return found is not None

    def wait_for_local_membership(self, group_id: int, timeout_ms: int | None = None) -> bool:
        native = self._native
        found = self._until(lambda ms: native.wait_for_local_membership(group_id, ms) or None, timeout_ms)
        return found is not None

    def wait_for_group_routes(
        self, group_id: int, src_node_id: int, min_routes: int = 1, timeout_ms: int | None = None
    ) -> bool:
        native = self._native
        found = self._until(
            lambda ms: native.wait_for_group_routes(group_id, src_node_id, min_routes, ms) or None,
            timeout_ms,
        )
        return found is not None

    def wait_for_event(self, timeout_ms: int | None = None) -> tuple[str, dict[str, Any]] | None:
        return self._until(self._native.wait_for_event, timeout_ms)

    # ---- helpers

    def _until(self, look: Callable[[int], _T | None], timeout_ms: int | None) -> _T | None:
        """Wait in slices: between two of them an exception that stops the role's thread can appear."""
        deadline = None if timeout_ms is None else time.monotonic() + timeout_ms / 1000
        while True:
            self._require_open()
            left = SLICE_MS
            if deadline is not None:
                left = max(0, min(SLICE_MS, round((deadline - time.monotonic()) * 1000)))
            found = look(left)
            if found is not None or (deadline is not None and time.monotonic() >= deadline):
                return found

    def _session(self, number: int) -> int:
        with self._lock:
            self._sessions.add(number)
            prune_due = len(self._sessions) % KEPT_SESSIONS == 0
            late = self._ended
        if late:
            self._native.cancel_session(number)
            _closed()
        if prune_due:
            self._forget_ended()
        return number

    def _forget_ended(self) -> None:
        """Forget senders' transfers that have ended; a receiver's may still hold bytes."""
        for number in list(self._sessions):
            with suppress(NextminiError):
                if self._native.session_report(number)["role"] == "sender" and (
                    self._native.session_done(number) is not None
                ):
                    self._sessions.discard(number)

    def _answer(self, answer: Answer) -> Answer:
        return cast("Answer", _RunAnswer(answer, self._require_open))

    def _require_open(self) -> None:
        if self._ended:
            (_forked if os.getpid() != _process else _closed)()

    def _clean_up(self, work: Callable[[], object]) -> None:
        with suppress(NextminiError):  # it ended by itself, or the node is closed: there is nothing to end
            work()


class _RunAnswer:
    """An answer of the controller that is waited for in slices."""

    def __init__(self, answer: Answer, require_open: Callable[[], None]) -> None:
        self._native = answer
        self._require_open = require_open
        self.poll = answer.poll
        self.watch = answer.watch

    def wait(self) -> list[tuple[int, int]]:
        waker = Waker()
        self._native.watch(waker, 0)
        descriptors = select.poll()
        descriptors.register(waker.fileno(), select.POLLIN)
        while (found := self._native.poll()) is None:
            self._require_open()
            descriptors.poll(SLICE_MS)
            waker.take()
        return found


_FORWARDED = (
    "cancel_session",
    "event",
    "group_address",
    "group_routes",
    "is_member",
    "lossless_wait",
    "network_info",
    "send_to_group",
    "send_to_node",
    "session_done",
    "session_report",
    "statistics",
    "topology_ready",
    "watch",
)
"""Calls that open nothing, or whose wait ends when the run's receivers and transfers are ended."""

_open: WeakSet[_RunNode] = WeakSet()
_process = os.getpid()


def _closed(*_: object, **__: object) -> Any:
    raise NodeClosed("the run has ended, and what it opened with it", id="node.run-ended")


def _forked(*_: object, **__: object) -> Any:
    raise NodeClosed("a forked process has no dataplane; use it in the role itself", id="node.forked")


def _abandon_all() -> None:
    for node in list(_open):
        node.abandon()


os.register_at_fork(after_in_child=_abandon_all)
