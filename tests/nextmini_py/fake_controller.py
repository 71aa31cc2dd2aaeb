"""A minimal controller, which lets nodes find each other.

It speaks the real protocol over a real websocket, keeps everything in memory and believes what it is told.
The real controller is tested elsewhere; this one keeps the tests of the node's face free of a database.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

from orchestrator.impairment import LinkSpec
from orchestrator.protocol import Frame, decode_frames, encode, node_token
from orchestrator.protocol import messages as m

NODE_KEY = "node-key"


@dataclass
class Peer:
    """A registered node."""

    line: ServerConnection
    process: int
    address: str
    ready: bool = False


@dataclass
class FakeGroup:
    """A group and its tree."""

    info: m.Group
    members: set[int] = field(default_factory=set)
    edges: tuple[tuple[int, int], ...] = ()


class FakeController:
    """A lab of nodes `1..n` with these links; a context manager."""

    def __init__(self, links: Iterable[tuple[int, int]]) -> None:
        self.links = [(min(link), max(link)) for link in links]
        self.nodes = sorted({node for link in self.links for node in link})
        self.peers: dict[int, Peer] = {}
        self.groups: dict[int, FakeGroup] = {}
        self.heard: list[tuple[int, m.Message]] = []
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._server: Server = serve(self._serve, "127.0.0.1", 0)
        self._thread = threading.Thread(target=self._server.serve_forever, name="fake-controller")

    @property
    def port(self) -> int:
        """Where nodes connect."""
        return int(self._server.socket.getsockname()[1])

    def settings(self, node: int, folder: Path, extra: str = "") -> Path:
        """Write the settings file of a node."""
        path = folder / f"node-{node}.toml"
        token = node_token(NODE_KEY, node)
        path.write_text(
            f'node_id = {node}\nname = "n{node}"\nlab = "fake-{self.port}"\nseed = 7\n'
            f'controller_addr = "ws://127.0.0.1:{self.port}/control"\ncontroller_token = "{token}"\n{extra}'
        )
        return path

    def say(self, node: int, message: m.Message) -> None:
        """Send a node something."""
        peer = self.peers.get(node)
        if peer is not None:
            try:
                peer.line.send(encode(Frame(message, node)))
            except ConnectionClosed:
                self.peers.pop(node, None)

    def said(self, kind: type[m.Message]) -> list[tuple[int, m.Message]]:
        """Return what nodes said of one kind, with the node."""
        with self._lock:
            return [(node, message) for node, message in self.heard if isinstance(message, kind)]

    def wait_for(self, kind: type[m.Message], node: int, seconds: float = 20.0) -> bool:
        """Wait until a node has said something of one kind."""
        with self._changed:
            return self._changed.wait_for(lambda: node in {who for who, _ in self.said(kind)}, seconds)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        for peer in self.peers.values():
            peer.line.close()
        self._thread.join()

    def _serve(self, line: ServerConnection) -> None:
        try:
            for data in line:
                assert isinstance(data, bytes)
                with self._lock:
                    for frame in decode_frames(data):
                        self.heard.append((frame.node, frame.message))
                        self._changed.notify_all()
                        for reply in self._handle(line, frame):
                            line.send(encode(Frame(reply, frame.node)))
        except ConnectionClosed:
            pass
        with self._lock:
            for node in [node for node, peer in self.peers.items() if peer.line is line]:
                self._left(node)

    def _left(self, node: int) -> None:
        self.peers.pop(node, None)
        for other in list(self.peers):
            self.say(other, m.NodeState(node, "unreachable"))

    def _handle(self, line: ServerConnection, frame: Frame) -> list[m.Message]:
        message, node, number = frame.message, frame.node, frame.id
        if isinstance(message, m.Hello):
            if message.token != node_token(NODE_KEY, node):
                return [m.Error(number, "control.token", "the token is not valid")]
            return [m.Welcome(1, "fake", 1)]
        if isinstance(message, m.StartUp):
            return self._register(line, node, number, message)
        if isinstance(message, m.NodeTopologyReady):
            self.peers[node].ready = True
            if len(self.peers) == len(self.nodes) and all(peer.ready for peer in self.peers.values()):
                for each in list(self.peers):
                    self.say(each, m.TopologyReady())
        elif isinstance(message, m.Goodbye):
            self._left(node)
        elif number:
            return self._request(node, number, message)
        return []

    def _register(
        self, line: ServerConnection, node: int, number: int, message: m.StartUp
    ) -> list[m.Message]:
        if message.token != node_token(NODE_KEY, node):
            return [m.Error(number, "control.token", "the token is not that of the node")]
        if node not in self.nodes:
            return [m.Error(number, "node.unknown", f"the lab has no node {node}")]
        self.peers[node] = Peer(line, message.process, message.private_network_addr)
        line.send(encode(Frame(m.Ack(number), node)))
        self.say(node, self._node_settings(node))
        table = b"".join(hop.to_bytes(4, "little") for hop in self._table(node))
        self.say(node, m.InstallRoutes(1, table))
        if self.groups:
            self.say(node, m.InstallGroupDirectory(1, tuple(group.info for group in self.groups.values())))
        for a, b in self.links:
            if node in (a, b) and a in self.peers and b in self.peers:
                self._connect(node, a + b - node)
        return []

    def _connect(self, late: int, early: int) -> None:
        """The later node dials the earlier, unless they share a process."""
        same = self.peers[late].process == self.peers[early].process
        for node, remote in ((late, early), (early, late)):
            peer, dial = self.peers[remote], node == late and not same
            address = peer.address if dial else ""
            order = m.AddNode(remote, f"n{remote}", address, peer.process, same, dial, LinkSpec(), version=1)
            self.say(node, replace(order, secret=bytes(32)))

    def _request(self, node: int, number: int, message: m.Message) -> list[m.Message]:
        if isinstance(message, m.CreateGroup):
            info = self._create(node, message.label)
            value = {
                "group_id": info.group_id,
                "group_ip": info.group_ip,
                "src_node_id": info.src_node_id,
                "label": info.label,
            }
            return [m.Ack(number, value)]
        group = self.groups.get(getattr(message, "group_id", 0))
        if group is None:
            return [m.Error(number, "group.unknown", "there is no such group")]
        if isinstance(message, m.JoinGroup):
            group.members.add(node)
        elif isinstance(message, m.LeaveGroup):
            group.members.discard(node)
        elif isinstance(message, m.SetGroupRoutes):
            if group.info.src_node_id not in {source for source, _ in message.edges}:
                return [m.Error(number, "group.tree", "the edges do not start at the source")]
            self._install(group, message.edges)
        elif isinstance(message, m.ComputeGroupRoutes):
            self._install(group, self._tree(group.info.src_node_id, message.receivers))
            return [m.Ack(number, [list(edge) for edge in group.edges])]
        return [m.Ack(number)]

    def _create(self, node: int, label: str) -> m.Group:
        for group in self.groups.values():
            if group.info.label == label:
                return group.info
        number = len(self.groups) + 1
        info = m.Group(number, f"239.255.0.{number}", node, label)
        self.groups[number] = FakeGroup(info)
        for each in list(self.peers):
            self.say(each, m.InstallGroupDirectory(number, (info,)))
        self.say(node, m.GroupCreated(info.group_id, info.group_ip, node, label))
        return info

    def _install(self, group: FakeGroup, edges: tuple[tuple[int, int], ...]) -> None:
        group.edges = edges
        for node in self.nodes:
            hops = tuple(target for source, target in edges if source == node)
            part = any(node in edge for edge in edges)
            routes = (m.GroupRoute(0, 1, hops, local=True),) if part else ()
            self.say(node, m.InstallGroupRoutes(group.info.group_id, group.info.src_node_id, 1, routes))

    def _towards(self, root: int) -> dict[int, int]:
        """For every node the next one on a shortest path to `root`."""
        next_hop, queue = {root: root}, deque([root])
        while queue:
            here = queue.popleft()
            for link in self.links:
                if here in link:
                    there = sum(link) - here
                    if there not in next_hop:
                        next_hop[there] = here
                        queue.append(there)
        return next_hop

    def _table(self, node: int) -> list[int]:
        hops = [0] * (max(self.nodes) + 1)
        for target in self.nodes:
            if target != node:
                hops[target] = self._towards(target).get(node, 0)
        return hops

    def _tree(self, source: int, receivers: Iterable[int]) -> tuple[tuple[int, int], ...]:
        parents, edges = self._towards(source), set()
        for node in receivers:
            while node != source:
                edges.add((parents[node], node))
                node = parents[node]
        return tuple(sorted(edges))

    @staticmethod
    def _node_settings(node: int) -> m.NodeSettings:
        return m.NodeSettings(
            node_id=node,
            net_mask="255.255.0.0",
            virtual_base_addr="10.0.0.0",
            user_space_base_addr="192.168.0.0",
            external_base_addr="172.16.0.0",
            multicast_pool_base="239.255.0.0",
            multicast_pool_mask="255.255.0.0",
            max_server_port=8081,
            protocol="tcp",
            scheduler_type="fifo",
            seed=7,
            node_spec=m.NodeSpec(node),
        )
