"""`Dataplane`: a node of the lab in this process."""

from __future__ import annotations

import atexit
import os
import weakref

from nextmini_py import _native
from nextmini_py._groups import Groups
from nextmini_py._native import PacketView
from nextmini_py._receiver import PacketReceiver
from nextmini_py._waiter import waiter
from nextmini_py.errors import NodeClosed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator
    from types import TracebackType
    from typing import Any, Self

    from typing_extensions import Buffer

    from nextmini_py._results import Event, LosslessResult

__all__ = ["Dataplane"]


class Dataplane(Groups):
    """A live node in this process, described by its settings file.

    The node registers with its controller, links to its neighbours and forwards packets on threads of its own
    until it is closed. Several may live in one process. The calls may be made from any thread; those that
    wait let other threads run and end with Ctrl-C. Each of those has an `_async` variant, to be awaited.

    Args:
        config_path: The node's TOML file.
        enable_local_interface: Also make the node's TUN device, so that ordinary programs can use the
            network. A program that only uses this object needs neither it nor a permission.
        namespace_fd: An open file that names the network namespace for the TUN device; see
            `nextmini_py.host`.

    Raises:
        ConfigError: The file cannot be used; carries file, line, column and key.
        ControllerUnreachable: No controller within `controller_connect_timeout_ms`.
        TokenRefused: The controller does not accept the token.
        StartError: The machine refuses something: `TunMissing`, `TunDenied` and others.
    """

    def __init__(
        self,
        config_path: str | os.PathLike[str],
        *,
        enable_local_interface: bool = False,
        namespace_fd: int | None = None,
    ) -> None:
        self._start(config_path, enable_local_interface, namespace_fd)
        self._registered()

    def _start(
        self, config_path: str | os.PathLike[str], enable_local_interface: bool, namespace_fd: int | None
    ) -> None:
        self._config_path = os.fspath(config_path)
        self._node = _native.Node(config_path, enable_local_interface, namespace_fd)

    def _registered(self) -> None:
        """Wait until the controller has accepted the node; a refused node is closed."""
        try:
            self._node.registration().wait()
        except BaseException:
            self._node.close()
            raise
        _open.add(self)

    @property
    def node_id(self) -> int:
        """The node's number."""
        return self._node.node_id

    @property
    def config_path(self) -> str:
        """The settings file, as it was given."""
        return self._config_path

    @property
    def offload(self) -> str:
        """Whether the TUN device carries super-packets: `on`, or `off` with the reason."""
        return self._node.offload

    @property
    def closed(self) -> bool:
        """Whether the node was closed."""
        return self._node.closed

    def close(self) -> None:
        """Leave the lab: tell the controller, take the links down, end whatever waits. Twice is fine."""
        _open.discard(self)
        self._node.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = ", closed" if self.closed else ""
        return f"<Dataplane of node {self.node_id} from {self.config_path}{state}>"

    # ---- information

    def get_network_info(self) -> dict[str, str]:
        """Return where the node is and how it is reached.

        Keys: `node_id`, `name`, `lab`, `private_network_name`, `private_network_interface`,
        `private_network_addr`, `private_network_port`, `public_network_addr`, `controller_addr`,
        `local_address` (on TUN), `local_address6` (likewise; empty without IPv6) and `user_space_address` (of
        messages).
        """
        return self._node.network_info()

    def statistics(self) -> dict[str, Any]:
        """Return the node's counters at this moment.

        `links` is a list with, for each neighbour, `remote`, `state`, `reason`, `tx_packets`, `tx_bytes`,
        `tx_drops` (by cause), the same for `rx`, `tx_impaired` (copies made, packets overtaken and packets
        corrupted, as `duplicate`, `reorder`, `corrupt`), `queued_packets`, `queued_bytes` and `spec`. Packets
        are MTU segments, bytes count their headers. Besides: `tun_rx`, `tun_tx`, `delivered`, `flows`,
        `sessions`.
        """
        return self._node.statistics()

    # ---- ready

    def wait_for_topology_ready(self, timeout_ms: int | None = None) -> bool:
        """Wait until the controller says that every node is ready; False when the time is over."""
        return self._node.wait_for_topology_ready(timeout_ms)

    async def wait_for_topology_ready_async(self, timeout_ms: int | None = None) -> bool:
        """Like `wait_for_topology_ready`, for an event loop."""
        node = self._node
        return await waiter().until(node, lambda: node.topology_ready() or None, timeout_ms) is not None

    # ---- unicast

    def register_receiver_from_node(
        self, src_node_id: int, src_port: int | None = None, dst_port: int | None = None
    ) -> PacketReceiver:
        """Receive the messages that a node sends to this one.

        Args:
            src_node_id: The sending node.
            src_port: The port it sends from; None for `user_space_client_port`.
            dst_port: The port it sends to; None for `user_space_server_port`.

        Raises:
            InvalidArgument: This program has a receiver for that flow already.
        """
        return PacketReceiver(self._node.register_receiver(src_node_id, None, src_port, dst_port))

    def send_to_node(
        self,
        dst_node_id: int,
        frozen: PacketView | Buffer,
        src_port: int | None = None,
        dst_port: int | None = None,
    ) -> int:
        """Send one message, which arrives whole or not at all, and at most once.

        A message sent before every node is ready waits for that, for ten seconds at most and once only.

        Args:
            dst_node_id: The receiving node.
            frozen: The message, up to `MAX_MESSAGE` bytes.
            src_port: Our port; None for `user_space_client_port`.
            dst_port: Its port; None for `user_space_server_port`.

        Returns:
            How many messages this dataplane had sent before.

        Raises:
            MessageTooLarge: The message is larger than one packet; `largest` says what fits.
            UnknownNode: There is no such node, or no route to it.
        """
        return self._node.send_to_node(dst_node_id, frozen, src_port, dst_port)

    # ---- lossless transfers

    def send_data(
        self,
        group_id: int,
        dest_ip: str,
        receiver_ids: Iterable[int],
        buffer: PacketView | Buffer,
        chunk_size: int = 8192,
    ) -> int:
        """Start to send bytes to every listed node, without losing any.

        Args:
            group_id: The group, when `dest_ip` is a group's address; not used otherwise.
            dest_ip: The group's address, or one node's.
            receiver_ids: The nodes that must get every byte.
            buffer: The bytes. They are not copied and must not change until the transfer has ended.
            chunk_size: A hint and nothing more: packets have the size that fits the network.

        Returns:
            The session's number, for `lossless_wait` and `lossless_result`. This dataplane counts up and
            uses none twice; a receiver has a number of its own for its side.

        Raises:
            InvalidArgument: The buffer is empty, no receivers are listed, or the chunk size is zero.
            UnknownGroup: There is no such group.
        """
        dest = self._destination(group_id, dest_ip)
        return self._node.send_data(group_id, dest, list(receiver_ids), buffer, chunk_size)

    def receive_data(
        self,
        group_id: int,
        dest_ip: str,
        source_node_id: int,
        expected_bytes: int,
        chunk_size: int = 8192,
    ) -> int:
        """Prepare to receive a transfer; before or after the sender starts is the same.

        The call takes the next transfer of that node to that address which no other call of this program has
        taken. Several calls take several transfers in the order in which both began.

        Args:
            group_id: The group, when `dest_ip` is a group's address; not used otherwise.
            dest_ip: The address that the sender sends to: the group's, or this node's.
            source_node_id: The sending node.
            expected_bytes: How many bytes there is room for.
            chunk_size: A hint and nothing more.

        Returns:
            The session's number here.

        Raises:
            Unfetched: Received transfers hold 4 GiB that were not fetched.
        """
        dest = self._destination(group_id, dest_ip)
        return self._node.receive_data(group_id, dest, source_node_id, expected_bytes, chunk_size)

    async def receive_data_async(
        self,
        group_id: int,
        dest_ip: str,
        source_node_id: int,
        expected_bytes: int,
        chunk_size: int = 8192,
    ) -> int:
        """Like `receive_data`, to be awaited."""
        import asyncio

        await asyncio.sleep(0)
        return self.receive_data(group_id, dest_ip, source_node_id, expected_bytes, chunk_size)

    def lossless_wait(self, session_id: int, timeout_ms: int | None = None) -> bool:
        """Wait for the end of a transfer.

        Returns:
            True only if every listed receiver has every byte and has said so by their digest. False when
            on a timeout, or when a receiver lacks bytes; `lossless_result` names it.

        Raises:
            UnknownSession: This dataplane started no such session, or has forgotten it: it remembers the last
                4096 that ended, and those whose bytes were not fetched.
        """
        return self._node.lossless_wait(session_id, timeout_ms)

    async def lossless_wait_async(self, session_id: int, timeout_ms: int | None = None) -> bool:
        """Like `lossless_wait`, for an event loop. Cancelling it does not stop the transfer."""
        node = self._node
        return await waiter().until(node, lambda: node.session_done(session_id), timeout_ms) is True

    def lossless_result(self, session_id: int) -> LosslessResult:
        """Return how a transfer went, or how it stands while it runs."""
        from nextmini_py._results import lossless_result

        return lossless_result(self._node.session_report(session_id))

    def lossless_cancel(self, session_id: int) -> None:
        """End a transfer at once, notify its peers, and release bytes that were not fetched.

        A receive call that is cancelled takes no transfer any more. Cancelling again, or what has ended, or
        after the dataplane was closed, does no harm; it waits for nothing but this node.

        Raises:
            UnknownSession: This dataplane never started such a session.
        """
        self._node.cancel_session(session_id)

    def get_data_buffer(self, session_id: int, consume: bool = True) -> PacketView:
        """Return what a transfer brought, without a copy.

        Args:
            session_id: A session of `receive_data`.
            consume: Release the bytes here; they exist as long as the view does.

        Raises:
            UnknownSession: This dataplane started no such session.
            NoData: It is not complete, or its bytes were consumed.
        """
        return self._node.session_data(session_id, consume)

    # ---- events

    def events(self, timeout_ms: int | None = None) -> Iterator[Event]:
        """Yield the events of this node in order, and further ones as they happen.

        Every event is handed out once. The oldest are forgotten when more than a few thousand wait.

        Args:
            timeout_ms: End when nothing happens for so long; 0 yields what there is. None continues until the
                dataplane is closed.
        """
        from nextmini_py._results import Event

        while True:
            try:
                found = self._node.wait_for_event(timeout_ms)
            except NodeClosed:
                return
            if found is None:
                return
            yield Event(*found)

    async def events_async(self, timeout_ms: int | None = None) -> AsyncIterator[Event]:
        """Like `events`, for an event loop."""
        from nextmini_py._results import Event

        while True:
            try:
                found = await waiter().until(self._node, self._node.event, timeout_ms)
            except NodeClosed:
                return
            if found is None:
                return
            yield Event(*found)

    def _destination(self, group_id: int, dest_ip: str) -> str:
        """Return the address of a group; a wrong `dest_ip` is logged and replaced."""
        from ipaddress import IPv4Address

        known = self._node.group_address(group_id)
        if known is not None and known != dest_ip and IPv4Address(dest_ip).is_multicast:
            text = f"group {group_id} has the address {known}, not {dest_ip}; {known} is used"
            import warnings

            warnings.warn(text, stacklevel=3)
            return known
        return dest_ip


_open: weakref.WeakSet[Dataplane] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Close all nodes at exit, so that the controller and neighbours are notified."""
    for dataplane in list(_open):
        dataplane.close()


def open_nodes(nodes: Iterable[tuple[str | os.PathLike[str], int | None]]) -> list[Dataplane]:
    """Start many nodes with TUN devices: all are on their way before the first answer is waited for.

    Args:
        nodes: For each its TOML file and `namespace_fd` as for `Dataplane`.

    Raises:
        NextminiError: The first failure, of those that `Dataplane` names; no node is left open then.
    """
    opened: list[Dataplane] = []
    try:
        for config_path, namespace_fd in nodes:
            dataplane = Dataplane.__new__(Dataplane)
            dataplane._start(config_path, True, namespace_fd)
            opened.append(dataplane)
        for dataplane in opened:
            dataplane._registered()
    except BaseException:
        for dataplane in opened:
            dataplane.close()
        raise
    return opened
