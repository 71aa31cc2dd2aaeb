"""The compiled part of `nextmini_py`; import its names from there."""

import os
from collections.abc import Mapping
from typing import Any, final

from typing_extensions import Buffer

__all__ = [
    "ATTACH_NAME",
    "JOIN_WAIT_MS",
    "MAX_MESSAGE",
    "SEND_WAIT_MS",
    "Answer",
    "Connection",
    "Node",
    "PacketBuilder",
    "PacketView",
    "PayloadDelivery",
    "Receiver",
    "Simulation",
    "Thing",
    "Waker",
    "agent_requested",
    "check_config",
    "create_machine",
    "create_namespace",
    "enter_names",
    "enter_namespace",
    "enter_user_namespace",
    "serve_captures",
    "unshare_mounts",
    "watch_agent_request",
]

MAX_MESSAGE: int
"""The most bytes that one message may have."""

JOIN_WAIT_MS: int
"""How long joining waits for a group that does not exist yet, unless told otherwise."""

SEND_WAIT_MS: int
"""How long the first message waits for the lab to be ready."""

ATTACH_NAME: str
"""The abstract name of the unix socket under which the programs of a node find it."""

def check_config(path: str | os.PathLike[str]) -> int:
    """Check a node's settings as opening the node would, and start nothing.

    Returns:
        The node's id.

    Raises:
        ConfigError: The file cannot be used.
    """

@final
class PacketBuilder:
    """Bytes that are put together piece by piece and then frozen.

    Example:
        >>> builder = PacketBuilder(size=4096)
        >>> builder.write(b"hello ")
        6
        >>> builder.write(b"world")
        5
        >>> bytes(builder.freeze())
        b'hello world'
    """

    def __new__(cls, size: int = 4096) -> PacketBuilder:
        """Make an empty builder.

        Args:
            size: How many bytes to make room for. Writing more is allowed.
        """

    def write(self, data: PacketView | Buffer) -> int:
        """Append bytes and return how many they were."""

    def freeze(self) -> PacketView:
        """Return what was written as a view, without a copy; the builder is empty afterwards."""

    def __len__(self) -> int: ...

@final
class PacketView(Buffer):  # the slot exists at run time; its name only from CPython 3.12 on
    """Immutable bytes: what is sent, and what is received.

    The view has the buffer protocol, so `memoryview(view)` and `numpy.frombuffer(view, ...)` read its memory
    without a copy. It keeps that memory alive, and so does everything made from it.
    """

    def __new__(cls, data: PacketView | Buffer) -> PacketView:
        """Make a view of an object's bytes.

        Args:
            data: Any object with the buffer protocol. The memory of a read-only one (`bytes`, a view) is
                shared; of a writable one (`bytearray`, an array) a snapshot is taken.
        """

    @staticmethod
    def from_buffer(data: PacketView | Buffer) -> PacketView:
        """Make a view that shares the memory of an object, also of a writable one.

        The object must not be changed while the view, or a transfer of it, is in use.
        """

    def slice(self, start: int = 0, stop: int | None = None) -> PacketView:
        """Return a part of this view that shares its memory; bounds count as in `bytes[start:stop]`."""

    def read(self) -> bytes:
        """Return a copy of the bytes."""

    def __len__(self) -> int: ...
    def __bytes__(self) -> bytes: ...

@final
class PayloadDelivery:
    """A message as it arrived."""

    @property
    def payload(self) -> bytes:
        """A copy of the message."""

    @property
    def frozen_payload(self) -> PacketView:
        """The message without a copy."""

    @property
    def src_ip(self) -> str:
        """The sender's address."""

    @property
    def dst_ip(self) -> str:
        """The address that it was sent to: this node's, or a group's."""

    @property
    def src_port(self) -> int:
        """The sender's port."""

    @property
    def dst_port(self) -> int:
        """The port that it was sent to."""

    @property
    def flow_id(self) -> int:
        """A number that messages of one flow share."""

    @property
    def message_id(self) -> int:
        """Counts the receiver's messages from 0; a gap means that messages were dropped for want of room."""

    def __len__(self) -> int: ...

@final
class Receiver:
    """A registered flow; see `PacketReceiver`."""

    def recv(self, timeout_ms: int | None = None) -> PayloadDelivery | None:
        """Wait for a message."""

    def recv_batch(self, limit_messages: int = 256, timeout_ms: int | None = None) -> list[PayloadDelivery]:
        """Wait for messages, and take what there is."""

    def poll(self) -> PayloadDelivery | None:
        """Take a message if there is one."""

    @property
    def dropped(self) -> int:
        """Messages that found no room."""

    def close(self) -> None:
        """Stop receiving."""

    def watch(self, waker: Waker, key: int) -> None:
        """Let a waker fire at every change."""

@final
class Waker:
    """A descriptor that becomes readable when something changes, and the keys of what changed."""

    def __new__(cls) -> Waker: ...
    def fileno(self) -> int:
        """The descriptor; it belongs to the waker."""

    def take(self) -> list[int]:
        """The keys that fired since the last call."""

@final
class Answer:
    """The controller's answer to a request; handed out once."""

    def wait(self) -> list[tuple[int, int]]:
        """Wait for it: the edges of a computed tree, nothing for other requests."""

    def poll(self) -> list[tuple[int, int]] | None:
        """Take it if it is there."""

    def watch(self, waker: Waker, key: int) -> None:
        """Let a waker fire when it comes."""

@final
class Node:
    """A node in this process; see `Dataplane`, which documents each call."""

    def __new__(
        cls,
        config_path: str | os.PathLike[str],
        enable_local_interface: bool = False,
        namespace_fd: int | None = None,
    ) -> Node: ...
    def registration(self) -> Answer:
        """Answered when the controller has accepted the node."""

    @property
    def node_id(self) -> int: ...
    @property
    def controller_token(self) -> str: ...
    @property
    def offload(self) -> str: ...
    @property
    def closed(self) -> bool: ...
    def serve(self, name: str, namespace_fd: int | None = None) -> None: ...
    def close(self) -> None: ...
    def set_paused(self, paused: bool) -> None: ...
    def watch(self, waker: Waker, key: int) -> None: ...
    def network_info(self) -> dict[str, str]: ...
    def statistics(self) -> dict[str, Any]: ...
    def topology_ready(self) -> bool: ...
    def wait_for_topology_ready(self, timeout_ms: int | None = None) -> bool: ...
    def group(self, label: str | None = None) -> tuple[int, str, int] | None: ...
    def wait_for_group(
        self, timeout_ms: int | None = None, label: str | None = None
    ) -> tuple[int, str, int] | None: ...
    def is_member(self, group_id: int) -> bool: ...
    def wait_for_local_membership(self, group_id: int, timeout_ms: int | None = None) -> bool: ...
    def group_routes(self, group_id: int, src_node_id: int) -> int: ...
    def wait_for_group_routes(
        self, group_id: int, src_node_id: int, min_routes: int = 1, timeout_ms: int | None = None
    ) -> bool: ...
    def event(self) -> tuple[str, dict[str, Any]] | None: ...
    def wait_for_event(self, timeout_ms: int | None = None) -> tuple[str, dict[str, Any]] | None: ...
    def create_group(self, label: str) -> Answer: ...
    def join_group(self, group_id: int, wait_ms: int) -> Answer: ...
    def leave_group(self, group_id: int) -> None: ...
    def set_group_routes(self, group_id: int, edges: list[tuple[int, int]]) -> Answer: ...
    def set_group_routes_multi(
        self, group_id: int, trees: list[tuple[int, list[tuple[int, int]]]]
    ) -> Answer: ...
    def compute_group_routes(self, group_id: int, receivers: list[int], kind: str) -> Answer: ...
    def group_address(self, group_id: int) -> str | None: ...
    def register_receiver(
        self,
        src_node_id: int,
        group_ip: str | None = None,
        src_port: int | None = None,
        dst_port: int | None = None,
    ) -> Receiver: ...
    def send_to_node(
        self,
        dst_node_id: int,
        frozen: PacketView | Buffer,
        src_port: int | None = None,
        dst_port: int | None = None,
    ) -> int: ...
    def send_to_group(
        self,
        group_id: int,
        frozen: PacketView | Buffer,
        src_port: int | None = None,
        dst_port: int | None = None,
    ) -> int: ...
    def send_data(
        self,
        group_id: int,
        dest_ip: str,
        receiver_ids: list[int],
        buffer: PacketView | Buffer,
        chunk_size: int,
    ) -> int: ...
    def receive_data(
        self, group_id: int, dest_ip: str, source_node_id: int, expected_bytes: int, chunk_size: int
    ) -> int: ...
    def session_done(self, session_id: int) -> bool | None: ...
    def lossless_wait(self, session_id: int, timeout_ms: int | None = None) -> bool: ...
    def session_report(self, session_id: int) -> dict[str, Any]: ...
    def session_data(self, session_id: int, consume: bool) -> PacketView: ...
    def cancel_session(self, session_id: int) -> None: ...

@final
class Connection:
    """The connection of an attached program to its node; see `_attached.AttachedNode`."""

    def __new__(cls, name: str = ...) -> Connection: ...
    @property
    def facts(self) -> dict[str, Any]:
        """What does not change: `node_id` and `offload`."""

    @property
    def node(self) -> Thing:
        """What to wait for when the node's state changes."""

    @property
    def closed(self) -> bool:
        """Whether it has ended."""

    def close(self) -> None:
        """End it, and what was opened through it."""

    def call(
        self,
        name: str,
        arguments: dict[str, Any],
        message: PacketView | Buffer | None = None,
        transfer: PacketView | Buffer | None = None,
    ) -> Any:
        """Make a call, which never waits for anything but its answer.

        Args:
            name: The call; `dataplane/driver/src/attach/wire.rs` lists them.
            arguments: Its arguments by name.
            message: A message to send with it.
            transfer: The bytes of a transfer.

        Returns:
            A plain value, a `Thing` to wait for, a list of deliveries or a view of received bytes.
        """

@final
class Thing:
    """Something at the node of an attached program to wait for."""

    @property
    def number(self) -> int:
        """Its number there."""

    def changes(self) -> int:
        """How often it was found changed."""

    def wait(self, seen: int, limit_ms: int) -> None:
        """Wait until it has changed more often."""

    def watch(self, waker: Waker, key: int) -> None:
        """Let a waker fire at every change."""

@final
class Simulation:
    """An experiment on a simulated network; times are virtual, from its beginning.

    Every method that names a node, a link or a chain raises ValueError if there is none.
    """

    def __new__(
        cls,
        nodes: list[tuple[int, str, int]],
        *,
        base_addr: str,
        net_mask: str,
        user_base_addr: str,
        seed: int,
        pipe: bool,
        until_us: int,
    ) -> Simulation:
        """Make a network of nodes (number, name, MTU) without links that runs until a time at most."""

    def connect(
        self,
        a: int,
        b: int,
        forward: tuple[Mapping[str, object], bool],
        backward: tuple[Mapping[str, object], bool],
    ) -> None:
        """Connect two nodes by a link: what each direction does, and whether it is down."""

    def set_link(
        self, at_us: int, from_node: int, to_node: int, what: Mapping[str, object], down: bool
    ) -> None:
        """Plan a change of a direction of a link."""

    def set_carrier(self, at_us: int, a: int, b: int, up: bool) -> None:
        """Plan that a link goes down in both directions, or comes up."""

    def set_table(self, at_us: int, node: int, table: list[int]) -> None:
        """Plan the forwarding table of a node: the next hop by destination, 0 for none."""

    def set_routes(
        self,
        at_us: int,
        node: int,
        routes: list[tuple[int, int, int, float, list[int]]],
        removed: list[tuple[int, int]],
    ) -> None:
        """Plan a node's part of explicit routes (source, destination, number, weight, hops)."""

    def add_chain(self, begin_ns: int) -> int:
        """Add a chain of rounds of flows that begins at a time, and return its number."""

    def add_flow(
        self,
        id: int,
        src: int,
        dst: int,
        size: int,
        *,
        rate_bps: int | None = None,
        at_ns: int | None = None,
        round: tuple[int, int] | None = None,
    ) -> None:
        """Add a flow of so many bytes, which begins at a time or in a round of a chain."""

    def advance(self, steps: int, pause_us: int) -> str:
        """Advance by so many steps and not beyond a time; return `running`, `paused` or `ended`."""

    def now_ns(self) -> int:
        """The virtual time in nanoseconds."""

    def take_ended(self) -> list[tuple[int, int, int, int, int, str]]:
        """Take the flows that have ended: number, due, began, ended (nanoseconds), bytes, reason."""

    def running(self) -> list[tuple[int, int, int]]:
        """The flows that have begun and not ended: number, due (nanoseconds), acknowledged bytes."""

    def counters(
        self,
    ) -> list[
        tuple[int, int, int, int, int, list[tuple[int, int, int, int, int, float, list[tuple[str, int]]]]]
    ]:
        """The counters of each node.

        Node, packets and bytes from its programs, packets and bytes to them; and by link: neighbour, packets,
        bytes, queued packets, queued bytes, sum of delays in microseconds, drops by cause.
        """

def create_namespace() -> int:
    """Make a network namespace; see `nextmini_py.host`."""

def create_machine(hostname: str, settings: list[tuple[str, str, bool]]) -> tuple[int, int, list[str]]:
    """Make a network namespace with settings and a UTS namespace; see `nextmini_py.host`."""

def enter_names(namespace_fd: int) -> None:
    """Move the calling thread into a UTS namespace."""

def enter_namespace(namespace_fd: int) -> None:
    """Move the calling thread into a network namespace."""

def enter_user_namespace() -> None:
    """Move the process into a user namespace."""

def unshare_mounts(hosts_file: str | os.PathLike[str]) -> None:
    """Lay a file over `/etc/hosts` for the calling thread."""

def serve_captures(path: str | os.PathLike[str]) -> None:
    """Open a socket at which local programs ask for captures of the nodes of this process."""

def agent_requested() -> bool:
    """Whether the controller has requested an agent for this process."""

def watch_agent_request(waker: Waker, key: int) -> None:
    """Fire a waker with a key when the controller requests one."""
