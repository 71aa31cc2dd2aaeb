"""The node of an attached program: the calls of `_native.Node`, made over a connection.

The node's process does the work and answers each call at once. What waits, waits here: until the node says
that something has changed, in slices, so that signals and exceptions for the calling thread come through.
"""

from __future__ import annotations

import os
import time
from collections import deque
from contextlib import suppress

from nextmini_py import _native
from nextmini_py.errors import NodeClosed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from typing_extensions import Buffer

    from nextmini_py._native import PacketView, PayloadDelivery, Thing, Waker

    _T = TypeVar("_T")

__all__ = ["AttachedAnswer", "AttachedNode", "AttachedReceiver"]

SLICE_MS = 100
"""How long a wait stays in native code: below what a person notices, and rare enough to cost nothing."""

TAKEN_AT_ONCE = 64
"""Messages that one call brings from the node: together they cross between the processes as one."""


class AttachedNode:
    """A node in another process.

    Args:
        name: The abstract name of its socket.

    Raises:
        NotAttached: No node listens there in this network namespace, or it refuses this program.
    """

    def __init__(self, name: str) -> None:
        self._connection = _native.Connection(name)
        self._changes = self._connection.node
        facts = self._connection.facts
        self._node_id: int = facts["node_id"]
        self._offload: str = facts["offload"]
        self._label: str | None = None
        self._may_send = False

    @property
    def node_id(self) -> int:
        return self._node_id

    @property
    def offload(self) -> str:
        return self._offload

    @property
    def closed(self) -> bool:
        return self._connection.closed

    def close(self) -> None:
        """End the connection, and with it what was opened through it."""
        self._connection.close()

    def watch(self, waker: Waker, key: int) -> None:
        self._changes.watch(waker, key)

    def network_info(self) -> dict[str, str]:
        found: dict[str, str] = self._call("network_info")
        return found

    def statistics(self) -> dict[str, Any]:
        found: dict[str, Any] = self._call("statistics")
        return found

    # ---- waiting: for each condition a query and a wait

    def topology_ready(self) -> bool:
        found: bool = self._call("topology_ready")
        return found

    def wait_for_topology_ready(self, timeout_ms: int | None = None) -> bool:
        return until(self._changes, lambda: self.topology_ready() or None, timeout_ms) is not None

    def group(self, label: str | None = None) -> tuple[int, str, int] | None:
        found = self._call("group", label=label or self._label)
        return None if found is None else (found[0], found[1], found[2])

    def wait_for_group(
        self, timeout_ms: int | None = None, label: str | None = None
    ) -> tuple[int, str, int] | None:
        return until(self._changes, lambda: self.group(label), timeout_ms)

    def is_member(self, group_id: int) -> bool:
        found: bool = self._call("is_member", group_id=group_id)
        return found

    def wait_for_local_membership(self, group_id: int, timeout_ms: int | None = None) -> bool:
        return until(self._changes, lambda: self.is_member(group_id) or None, timeout_ms) is not None

    def group_routes(self, group_id: int, src_node_id: int) -> int:
        found: int = self._call("group_routes", group_id=group_id, src_node_id=src_node_id)
        return found

    def wait_for_group_routes(
        self, group_id: int, src_node_id: int, min_routes: int = 1, timeout_ms: int | None = None
    ) -> bool:
        enough = until(
            self._changes,
            lambda: self.group_routes(group_id, src_node_id) >= min_routes or None,
            timeout_ms,
        )
        return enough is not None

    def event(self) -> tuple[str, dict[str, Any]] | None:
        found = self._call("event")
        return None if found is None else (found[0], found[1])

    def wait_for_event(self, timeout_ms: int | None = None) -> tuple[str, dict[str, Any]] | None:
        return until(self._changes, self.event, timeout_ms)

    # ---- requests

    def create_group(self, label: str) -> AttachedAnswer:
        answer = self._ask("create_group", label=label)
        self._label = label
        return answer

    def join_group(self, group_id: int, wait_ms: int) -> AttachedAnswer:
        return self._ask("join_group", group_id=group_id, wait_ms=wait_ms)

    def leave_group(self, group_id: int) -> None:
        self._call("leave_group", group_id=group_id)

    def set_group_routes(self, group_id: int, edges: list[tuple[int, int]]) -> AttachedAnswer:
        return self._ask("set_group_routes", group_id=group_id, edges=edges)

    def set_group_routes_multi(
        self, group_id: int, trees: list[tuple[int, list[tuple[int, int]]]]
    ) -> AttachedAnswer:
        return self._ask("set_group_routes_multi", group_id=group_id, trees=trees)

    def compute_group_routes(self, group_id: int, receivers: list[int], kind: str) -> AttachedAnswer:
        return self._ask("compute_group_routes", group_id=group_id, receivers=receivers, kind=kind)

    def group_address(self, group_id: int) -> str | None:
        found: str | None = self._call("group_address", group_id=group_id)
        return found

    # ---- messages

    def register_receiver(
        self,
        src_node_id: int,
        group_ip: str | None = None,
        src_port: int | None = None,
        dst_port: int | None = None,
    ) -> AttachedReceiver:
        thing = self._call(
            "register_receiver",
            src_node_id=src_node_id,
            group_ip=group_ip,
            src_port=src_port,
            dst_port=dst_port,
        )
        return AttachedReceiver(self._connection, thing)

    def send_to_node(
        self,
        dst_node_id: int,
        frozen: PacketView | Buffer,
        src_port: int | None = None,
        dst_port: int | None = None,
    ) -> int:
        self._wait_to_send()
        target = {"dst_node_id": dst_node_id, "src_port": src_port, "dst_port": dst_port}
        found: int = self._connection.call("send_to_node", target, message=frozen)
        return found

    def send_to_group(
        self,
        group_id: int,
        frozen: PacketView | Buffer,
        src_port: int | None = None,
        dst_port: int | None = None,
    ) -> int:
        self._wait_to_send()
        target = {"group_id": group_id, "src_port": src_port, "dst_port": dst_port}
        found: int = self._connection.call("send_to_group", target, message=frozen)
        return found

    # ---- lossless transfers

    def send_data(
        self,
        group_id: int,
        dest_ip: str,
        receiver_ids: list[int],
        buffer: PacketView | Buffer,
        chunk_size: int,
    ) -> int:
        target = {
            "group_id": group_id,
            "dest_ip": dest_ip,
            "receiver_ids": receiver_ids,
            "chunk_size": chunk_size,
        }
        found: int = self._connection.call("send_data", target, transfer=buffer)
        return found

    def receive_data(
        self, group_id: int, dest_ip: str, source_node_id: int, expected_bytes: int, chunk_size: int
    ) -> int:
        found: int = self._call(
            "receive_data",
            group_id=group_id,
            dest_ip=dest_ip,
            source_node_id=source_node_id,
            expected_bytes=expected_bytes,
            chunk_size=chunk_size,
        )
        return found

    def session_done(self, session_id: int) -> bool | None:
        found: bool | None = self._call("session_done", session_id=session_id)
        return found

    def lossless_wait(self, session_id: int, timeout_ms: int | None = None) -> bool:
        return until(self._changes, lambda: self.session_done(session_id), timeout_ms) is True

    def session_report(self, session_id: int) -> dict[str, Any]:
        found: dict[str, Any] = self._call("session_report", session_id=session_id)
        return found

    def session_data(self, session_id: int, consume: bool) -> PacketView:
        found: PacketView = self._call("session_data", session_id=session_id, consume=consume)
        return found

    def cancel_session(self, session_id: int) -> None:
        if not self.closed:  # the end of the connection has cancelled it
            self._call("cancel_session", session_id=session_id)

    # ---- helpers

    def _call(self, name: str, **arguments: object) -> Any:
        return self._connection.call(name, arguments)

    def _ask(self, name: str, **arguments: object) -> AttachedAnswer:
        return AttachedAnswer(self._connection, self._call(name, **arguments))

    def _wait_to_send(self) -> None:
        """Wait for the lab before the first message, as a node in this process does."""
        if not self._may_send:
            self.wait_for_topology_ready(_native.SEND_WAIT_MS)
            self._may_send = True


class _Remote:
    """Something at the node that is forgotten there when it is collected here."""

    def __init__(self, connection: _native.Connection, thing: Thing) -> None:
        self._connection = connection
        self._thing = thing
        self._process = os.getpid()

    def __del__(self) -> None:
        if not hasattr(self, "_process") or self._process != os.getpid() or self._connection.closed:
            return
        with suppress(NodeClosed):  # the node is gone, and has forgotten everything
            self._call("forget")

    def watch(self, waker: Waker, key: int) -> None:
        """Let a waker fire at every change."""
        self._thing.watch(waker, key)

    def _call(self, name: str, **arguments: object) -> Any:
        return self._connection.call(name, {"thing": self._thing.number, **arguments})


class AttachedReceiver(_Remote):
    """A registered flow; see `PacketReceiver`."""

    def __init__(self, connection: _native.Connection, thing: Thing) -> None:
        super().__init__(connection, thing)
        self._arrived: deque[PayloadDelivery] = deque()

    def recv(self, timeout_ms: int | None = None) -> PayloadDelivery | None:
        """Wait for a message."""
        return until(self._thing, self.poll, timeout_ms)

    def recv_batch(self, limit_messages: int = 256, timeout_ms: int | None = None) -> list[PayloadDelivery]:
        """Wait for messages, and take what there is."""
        return until(self._thing, lambda: self._taken(limit_messages) or None, timeout_ms) or []

    def poll(self) -> PayloadDelivery | None:
        """Take a message if there is one."""
        found = self._taken(1)
        return found[0] if found else None

    @property
    def dropped(self) -> int:
        """Messages that were dropped because the queue was full."""
        found: int = self._call("dropped")
        return found

    def close(self) -> None:
        """Stop receiving."""
        if not self._connection.closed:
            self._call("close_receiver")

    def _taken(self, limit: int) -> list[PayloadDelivery]:
        if not self._arrived:
            self._arrived.extend(self._call("take", limit=max(limit, TAKEN_AT_ONCE)))
        found: list[PayloadDelivery] = []
        while len(found) < limit:
            try:
                found.append(self._arrived.popleft())
            except IndexError:  # another thread may take them, too
                break
        return found


class AttachedAnswer(_Remote):
    """The controller's answer to a request; handed out once."""

    def wait(self) -> list[tuple[int, int]]:
        """Wait for it: the edges of a computed tree, nothing for other requests."""
        return until(self._thing, self.poll, None) or []

    def poll(self) -> list[tuple[int, int]] | None:
        """Take it if it is there."""
        found = self._call("answer")
        return None if found is None else [(source, target) for source, target in found]


def until(thing: Thing, look: Callable[[], _T | None], timeout_ms: int | None) -> _T | None:
    """Look until something is found, each time that `thing` changes; None when the time is over."""
    deadline = None if timeout_ms is None else time.monotonic() + timeout_ms / 1000
    while True:
        seen = thing.changes()
        found = look()
        if found is not None:
            return found
        left = SLICE_MS
        if deadline is not None:
            left = min(SLICE_MS, round((deadline - time.monotonic()) * 1000))
            if left <= 0:
                return None
        thing.wait(seen, left)
