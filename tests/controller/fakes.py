"""Fake dataplanes and agents without packets, which speak the control protocol."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from orchestrator.controller.service import Controller
from orchestrator.protocol import Frame, Message, Role, node_token
from orchestrator.protocol import messages as m
from orchestrator.settings.controller import ControllerSettings, DatabaseSettings, LinkEntry, NodeEntry
from orchestrator.transport import Connection, connect

NODE_KEY = "node-key"
OPERATOR_TOKEN = "operator-token"


def ring(n: int) -> list[tuple[int, int]]:
    return [(i, i + 1) for i in range(1, n)] + ([(1, n)] if n > 2 else [])


def settings(
    database: dict[str, Any],
    n: int = 4,
    *,
    links: Iterable[tuple[int, int] | LinkEntry] | None = None,
    external: Iterable[int] = (),
    **changes: Any,
) -> ControllerSettings:
    """Settings of a ring, or of the links given."""
    outside = set(external)
    nodes = tuple(NodeEntry(node_id=i, name=f"node-{i}", external=i in outside) for i in range(1, n + 1))
    entries = tuple(
        link if isinstance(link, LinkEntry) else LinkEntry(a=link[0], b=link[1])
        for link in (ring(n) if links is None else links)
    )
    return ControllerSettings(
        lab="ring",
        node_key=NODE_KEY,
        operator_token=OPERATOR_TOKEN,
        link_secret="link-secret",
        seed=7,
        port=changes.pop("port", 0),
        db=DatabaseSettings(**database),
        nodes=nodes,
        links=entries,
        **changes,
    )


def url(controller: Controller) -> str:
    host, port = controller.address
    return f"ws://{host}:{port}/control"


@dataclass
class FakeNode:
    """One node as its dataplane remembers it."""

    id: int
    routes: bytes = b""
    routes_version: int | None = None
    explicit: dict[int, m.Route] = field(default_factory=dict)
    pins: dict[int, m.Pin] = field(default_factory=dict)
    links: dict[int, m.AddNode] = field(default_factory=dict)
    link_versions: dict[int, int] = field(default_factory=dict)
    up: set[int] = field(default_factory=set)
    groups: dict[int, m.Group] = field(default_factory=dict)
    groups_version: int | None = None
    trees: dict[int, m.InstallGroupRoutes] = field(default_factory=dict)
    settings: m.NodeSettings | None = None
    ready: bool = False
    members: list[m.MemberChanged] = field(default_factory=list)
    states: dict[int, str] = field(default_factory=dict)
    said_ready: bool = False
    flows: dict[int, m.Flow] = field(default_factory=dict)
    stopped_flows: list[int] = field(default_factory=list)
    probes: list[m.ProbeLink] = field(default_factory=list)

    def have(self) -> m.Have:
        trees = {group: message.version for group, message in self.trees.items()}
        return m.Have(self.routes_version, self.groups_version, dict(self.link_versions), trees)

    def hop(self, target: int) -> int:
        return int.from_bytes(self.routes[4 * target : 4 * target + 4], "little")


class FakeProcess:
    """A process with nodes, on one connection; links between its own nodes come up by themselves.

    Args:
        nodes: Their ids.
        process: Its number.
        external: The nodes are external.
    """

    def __init__(self, nodes: Iterable[int], process: int = 77, *, external: bool = False) -> None:
        self.nodes = {node_id: FakeNode(node_id) for node_id in nodes}
        self.process = process
        self.external = external
        self.received: Counter[str] = Counter()
        self.others: dict[int, FakeProcess] = {}
        self.connection: Connection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self.refuse: Callable[[Message], bool] = lambda message: False
        self.measured: m.LinkMeasurements | None = None
        self.flow_routes: dict[str, object] = {"flows": [], "known": 0, "forgotten": 0}
        self.sample: m.NodeSample | None = None
        self.before: Callable[[], Awaitable[object]] | None = None
        """What is waited for before each message is read, as by a process that hangs."""
        self.slow: set[int] = set()
        """Neighbours to which links do not come up by themselves, but by `comes_up`."""

    def comes_up(self, node: int, remote: int) -> None:
        """Report that a node's link to a neighbour is up."""
        assert self.connection is not None
        self.nodes[node].up.add(remote)
        self.connection.send_nowait(m.LinkState(remote, True), node=node)

    async def join(self, address: str) -> None:
        """Connect, register all nodes, and go on in the background."""
        first = next(iter(self.nodes))
        token = node_token(NODE_KEY, first)
        self.connection = await connect(address, token, Role.NODE, process=self.process, node=first)
        self._reader = asyncio.create_task(self._read(self.connection))
        for node in self.nodes.values():
            node.said_ready = False
            hello = m.StartUp(
                private_network_name="lab",
                private_network_addr=f"10.1.0.{node.id % 250}:8080",
                external=self.external,
                process=self.process,
                have=node.have(),
                token=node_token(NODE_KEY, node.id),
            )
            await self.connection.send(hello, node=node.id)
            for remote in sorted(node.up):
                self.connection.send_nowait(m.LinkState(remote, True), node=node.id)
            self._maybe_ready(node)

    async def die(self) -> None:
        """End without a word, as a killed process does."""
        if self.connection is not None:
            await self.connection.close(grace=0)
        if self._reader is not None:
            await self._reader

    def forget(self) -> None:
        """Be a new process, which remembers nothing."""
        self.process += 1
        self.nodes = {node_id: FakeNode(node_id) for node_id in self.nodes}

    async def request(self, node: int, message: Message) -> Any:
        """Send a request for a node and return the value of its `Ack`."""
        assert self.connection is not None
        reply = await self.connection.request(message, node=node, within=10)
        return reply.value if isinstance(reply, m.Ack) else reply

    async def until(self, condition: Callable[[], bool], within: float = 10.0) -> None:
        """Wait until what was received makes something true."""
        async with asyncio.timeout(within):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def _read(self, connection: Connection) -> None:
        async for frame in connection:
            if self.before is not None:
                await self.before()
            self.received[frame.message.type] += 1
            if self.refuse(frame.message):
                connection.send_nowait(m.Error(frame.id, "node.cannot", "it cannot"), node=frame.node)
                continue
            targets = [self.nodes[frame.node]] if frame.node else list(self.nodes.values())
            for node in targets:
                self._apply(connection, node, frame)
            listed = isinstance(frame.message, m.ListFlowRoutes)
            connection.ack(frame, self.flow_routes if listed else None)
            for node in targets:
                self._maybe_ready(node)
            self._changed.set()

    def _apply(self, connection: Connection, node: FakeNode, frame: Frame) -> None:
        message = frame.message
        if isinstance(message, m.NodeSettings):
            node.settings = message
        elif isinstance(message, m.InstallRoutes):
            if message.table is not None:
                node.routes = message.table
            if message.reset:
                node.explicit.clear()
                node.pins.clear()
            node.explicit.update({route.route_id: route for route in message.routes})
            for route_id in message.removed:
                node.explicit.pop(route_id, None)
            node.pins.update({pin.pin_id: pin for pin in message.pins})
            for pin_id in message.removed_pins:
                node.pins.pop(pin_id, None)
            node.routes_version = message.version
        elif isinstance(message, m.AddNode):
            node.links[message.remote_node_id] = message
            node.link_versions[message.remote_node_id] = message.version
            if message.remote_node_id not in self.slow:
                self.comes_up(node.id, message.remote_node_id)
        elif isinstance(message, m.SetLink):
            node.links[message.remote_node_id] = m.AddNode(
                message.remote_node_id,
                "",
                "",
                0,
                False,
                False,
                message.link,
                message.version,
                down=message.down,
            )
            node.link_versions[message.remote_node_id] = message.version
        elif isinstance(message, m.RemoveNode):
            node.links.pop(message.remote_node_id, None)
            node.link_versions.pop(message.remote_node_id, None)
            node.up.discard(message.remote_node_id)
        elif isinstance(message, m.InstallGroupDirectory):
            if message.reset:
                node.groups.clear()
            node.groups.update({group.group_id: group for group in message.groups})
            for group_id in message.removed:
                node.groups.pop(group_id, None)
            node.groups_version = message.version
        elif isinstance(message, m.InstallGroupRoutes):
            if message.routes:
                node.trees[message.group_id] = message
            else:
                node.trees.pop(message.group_id, None)
        elif isinstance(message, m.MeasureLinks) and self.measured is not None:
            connection.send_nowait(self.measured, node=node.id)
        elif isinstance(message, m.SampleNodes) and self.sample is not None:
            connection.send_nowait(self.sample, node=node.id)
        elif isinstance(message, m.TopologyReady):
            node.ready = True
        elif isinstance(message, m.AddFlows):
            node.flows.update({flow.controller_id: flow for flow in message.flows})
        elif isinstance(message, m.ProbeLink):
            node.probes.append(message)
        elif isinstance(message, m.StopFlows):
            node.stopped_flows += message.controller_ids
        elif isinstance(message, m.MemberChanged):
            node.members.append(message)
        elif isinstance(message, m.NodeState):
            node.states[message.node_id] = message.state

    def _maybe_ready(self, node: FakeNode) -> None:
        assert self.connection is not None
        if node.routes_version is not None and not node.said_ready and set(node.links) <= node.up:
            node.said_ready = True
            self.connection.send_nowait(m.NodeTopologyReady(), node=node.id)


class FakeAgent:
    """Runs the roles of nodes; what a role does is a coroutine given by the test."""

    def __init__(self, nodes: Iterable[int], play: Callable[[FakeAgent, m.RunRole], Any]) -> None:
        self.nodes = tuple(nodes)
        self.play = play
        self.prepared: dict[str, m.PrepareRun] = {}
        self.stopped: list[m.StopRole] = []
        self.connection: Connection | None = None
        self.tasks: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._barriers: dict[tuple[str, str, int], asyncio.Event] = defaultdict(asyncio.Event)
        self._values: dict[tuple[str, str], asyncio.Future[Any]] = {}
        self._generation: Counter[tuple[str, int, str]] = Counter()
        self._open: list[tuple[Message, int]] = []
        self._reader: asyncio.Task[None] | None = None

    async def join(self, address: str) -> None:
        tokens = {node: node_token(NODE_KEY, node) for node in self.nodes}
        first = self.nodes[0]
        self.connection = await connect(address, tokens[first], Role.AGENT, node=first)
        self._reader = asyncio.create_task(self._read(self.connection))
        running = tuple(m.RunningRole(*key) for key, task in self.tasks.items() if not task.done())
        await self.connection.request(m.AgentHello(self.nodes, running, tokens), within=10)
        for message, node in list(self._open):
            self._insist(message, node)

    async def die(self) -> None:
        assert self.connection is not None and self._reader is not None
        await self.connection.close(grace=0)
        await self._reader

    async def say(self, message: Message, node: int = 0) -> None:
        assert self.connection is not None
        await self.connection.request(message, node=node, within=10)

    async def barrier(self, role: m.RunRole, name: str) -> None:
        self._generation[(role.run, role.node, name)] += 1
        generation = self._generation[(role.run, role.node, name)]
        self._insist(m.BarrierEnter(role.run, role.node, name, generation), role.node)
        await self._barriers[(role.run, name, generation)].wait()

    async def lookup(self, role: m.RunRole, key: str) -> Any:
        future = self._values.setdefault((role.run, key), asyncio.get_running_loop().create_future())
        self._insist(m.Lookup(role.run, role.node, key), role.node)
        return await future

    def _insist(self, message: Message, node: int) -> None:
        """Send a request, and again on every new connection until it is answered."""
        assert self.connection is not None

        def replied(reply: Message | None) -> None:
            if reply is not None:
                self._open.remove((message, node))

        if (message, node) not in self._open:
            self._open.append((message, node))
        self.connection.ask(message, replied, node=node)

    async def _read(self, connection: Connection) -> None:
        async for frame in connection:
            message = frame.message
            if isinstance(message, m.PrepareRun):
                self.prepared[message.run] = message
            elif isinstance(message, m.RunRole):
                task = asyncio.create_task(self._run(message))
                self.tasks[(message.run, message.node)] = task
            elif isinstance(message, m.StopRole):
                self.stopped.append(message)
                for (run, node), task in self.tasks.items():
                    if run == message.run and message.node in (0, node) and not task.done():
                        task.cancel(message.reason)
            elif isinstance(message, m.BarrierReleased):
                self._barriers[(message.run, message.name, message.generation)].set()
            elif isinstance(message, m.Published):
                future = self._values.setdefault(
                    (message.run, message.key), asyncio.get_running_loop().create_future()
                )
                if not future.done():
                    future.set_result(message.value)
            connection.ack(frame)

    async def _run(self, role: m.RunRole) -> None:
        name = (role.run, role.node, role.role)
        try:
            await self.say(m.RoleStarted(*name), role.node)
            await self.play(self, role)
        except asyncio.CancelledError as stop:
            reason = stop.args[0] if stop.args else ""
            finished = m.RoleFinished(*name, False, reason)
        except Exception as error:
            finished = m.RoleFinished(*name, False, f"{type(error).__name__}: {error}", "Traceback …")
        else:
            finished = m.RoleFinished(*name, True)
        with contextlib.suppress(Exception):
            await self.say(finished, role.node)


async def ready_lab(controller: Controller, processes: Iterable[FakeProcess]) -> None:
    """Let processes join and wait until each of their nodes has heard that the topology is ready."""
    joined = list(processes)
    for process in joined:
        await process.join(url(controller))
    for process in joined:
        await process.until(lambda p=process: all(node.ready for node in p.nodes.values()))  # type: ignore[misc]
