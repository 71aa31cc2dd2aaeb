"""Groups and trees: the calls of `Dataplane` that the controller answers."""

from __future__ import annotations

from nextmini_py import _native
from nextmini_py._native import PacketView
from nextmini_py._receiver import PacketReceiver
from nextmini_py._waiter import waiter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Buffer

__all__ = ["Groups"]

Edge = tuple[int, int]


class Groups:
    """Multicast groups of a node; not used by itself, see `Dataplane`."""

    _node: _native.Node

    def create_group(self, label: str) -> None:
        """Make a multicast group with this node as its source; one of that label is taken over."""
        self._node.create_group(label).wait()

    async def create_group_async(self, label: str) -> None:
        """Like `create_group`, for an event loop."""
        await _answered(self._node.create_group(label))

    def group_is_ready(
        self, timeout_ms: int | None = None, *, label: str | None = None
    ) -> tuple[int, str, int] | None:
        """Wait for a group.

        Args:
            timeout_ms: How long; None waits for ever.
            label: The group with this label, of any source. Without one, the group that this node created
                last.

        Returns:
            `(group_id, group_ip, src_node_id)`, or None when the time is over.
        """
        return self._node.wait_for_group(timeout_ms, label)

    async def group_is_ready_async(
        self, timeout_ms: int | None = None, *, label: str | None = None
    ) -> tuple[int, str, int] | None:
        """Like `group_is_ready`, for an event loop."""
        node = self._node
        return await waiter().until(node, lambda: node.group(label), timeout_ms)

    def join_group(self, group_id: int, *, timeout_ms: int = _native.JOIN_WAIT_MS) -> None:
        """Become a member of a group.

        Args:
            group_id: The group.
            timeout_ms: How long to wait for a group that does not exist yet.

        Raises:
            UnknownGroup: There is no such group, and none came in time.
        """
        self._node.join_group(group_id, timeout_ms).wait()

    async def join_group_async(self, group_id: int, *, timeout_ms: int = _native.JOIN_WAIT_MS) -> None:
        """Like `join_group`, for an event loop."""
        await _answered(self._node.join_group(group_id, timeout_ms))

    def leave_group(self, group_id: int) -> None:
        """Stop being a member, at once; the controller is notified in the background."""
        self._node.leave_group(group_id)

    def wait_for_local_membership(self, group_id: int, timeout_ms: int | None = None) -> bool:
        """Wait until this node is a member; False when the time is over."""
        return self._node.wait_for_local_membership(group_id, timeout_ms)

    async def wait_for_local_membership_async(self, group_id: int, timeout_ms: int | None = None) -> bool:
        """Like `wait_for_local_membership`, for an event loop."""
        node = self._node
        found = await waiter().until(node, lambda: node.is_member(group_id) or None, timeout_ms)
        return found is not None

    def register_receiver_for_group(
        self,
        src_node_id: int,
        group_ip: str,
        src_port: int | None = None,
        dst_port: int | None = None,
    ) -> PacketReceiver:
        """Receive the messages that a node sends to a group; ports as in `register_receiver_from_node`."""
        return PacketReceiver(self._node.register_receiver(src_node_id, group_ip, src_port, dst_port))

    def send_to_group(
        self,
        group_id: int,
        frozen: PacketView | Buffer,
        src_port: int | None = None,
        dst_port: int | None = None,
    ) -> int:
        """Send one message down the group's tree; otherwise as `send_to_node`.

        Raises:
            UnknownGroup: There is no such group, or no tree of it starts here.
            MessageTooLarge: The message is larger than one packet.
        """
        return self._node.send_to_group(group_id, frozen, src_port, dst_port)

    # ---- trees

    def set_group_routes(self, group_id: int, edges: Iterable[Edge]) -> None:
        """Give a group its tree.

        Args:
            group_id: The group.
            edges: Directed edges `(from, to)` from the source outwards, over links that exist.

        Raises:
            TreeRefused: The edges make no tree from the source to the members, or this node is neither; the
                message says why.
        """
        self._node.set_group_routes(group_id, _edges(edges)).wait()

    async def set_group_routes_async(self, group_id: int, edges: Iterable[Edge]) -> None:
        """Like `set_group_routes`, for an event loop."""
        await _answered(self._node.set_group_routes(group_id, _edges(edges)))

    def set_group_routes_multi(self, group_id: int, trees: Iterable[tuple[int, Iterable[Edge]]]) -> None:
        """Give a group several trees, each as `(tree_id, edges)`, in place of those it had."""
        self._node.set_group_routes_multi(group_id, [(tree, _edges(edges)) for tree, edges in trees]).wait()

    async def set_group_routes_multi_async(
        self, group_id: int, trees: Iterable[tuple[int, Iterable[Edge]]]
    ) -> None:
        """Like `set_group_routes_multi`, for an event loop."""
        listed = [(tree, _edges(edges)) for tree, edges in trees]
        await _answered(self._node.set_group_routes_multi(group_id, listed))

    def compute_group_routes(
        self, group_id: int, receivers: Iterable[int] = (), kind: str = "shortest_path"
    ) -> list[Edge]:
        """Let the controller compute a tree to some nodes and install it.

        Args:
            group_id: The group.
            receivers: The nodes to reach; none means the group's members.
            kind: `shortest_path`.

        Returns:
            The tree's edges.

        Raises:
            TreeRefused: There is no such tree, or this node is neither the group's source nor a member.
        """
        return self._node.compute_group_routes(group_id, list(receivers), kind).wait()

    async def compute_group_routes_async(
        self, group_id: int, receivers: Iterable[int] = (), kind: str = "shortest_path"
    ) -> list[Edge]:
        """Like `compute_group_routes`, for an event loop."""
        return await _answered(self._node.compute_group_routes(group_id, list(receivers), kind))

    def wait_for_group_routes(
        self, group_id: int, src_node_id: int, min_routes: int = 1, timeout_ms: int | None = None
    ) -> bool:
        """Wait until so many trees of a group pass this node; False when the time is over."""
        return self._node.wait_for_group_routes(group_id, src_node_id, min_routes, timeout_ms)

    async def wait_for_group_routes_async(
        self, group_id: int, src_node_id: int, min_routes: int = 1, timeout_ms: int | None = None
    ) -> bool:
        """Like `wait_for_group_routes`, for an event loop."""
        node = self._node
        enough = await waiter().until(
            node, lambda: (node.group_routes(group_id, src_node_id) >= min_routes) or None, timeout_ms
        )
        return enough is not None


async def _answered(answer: _native.Answer) -> list[Edge]:
    return await waiter().until(answer, answer.poll) or []


def _edges(edges: Iterable[Edge]) -> list[Edge]:
    return [(source, target) for source, target in edges]
