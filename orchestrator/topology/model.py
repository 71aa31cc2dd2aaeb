"""The data classes of a topology, with all defaults, groups and generators applied.

Everything is frozen and in order: nodes by id, links by their ends, routes as written. Two files that mean
the same make equal topologies.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from orchestrator.errors import Problem
from orchestrator.impairment import PLAIN, LinkSpec
from orchestrator.topology import ipv6
from orchestrator.topology.service_model import Service
from orchestrator.units import Duration, Rate

__all__ = [
    "Access",
    "Flow",
    "Generator",
    "LabTest",
    "LabTestKindName",
    "Link",
    "Node",
    "Output",
    "Route",
    "Topology",
    "Uplink",
]

LabTestKindName = Literal["reach", "tcp", "http", "command", "route", "throughput", "loss", "delay"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Where the lab's controller is reached, and how.

    Attributes:
        listen: An address of the machine, besides loopback; empty for none.
        tls: Whether connections are in TLS; None for where they leave the machine.
        names: Further host names in its certificate.
    """

    listen: str = ""
    tls: bool | None = None
    names: tuple[str, ...] = ()

    @property
    def is_outside(self) -> bool:
        """Whether other machines may reach it."""
        return bool(self.listen) and not ipaddress.ip_address(self.listen).is_loopback

    @property
    def encrypted(self) -> bool:
        """Whether connections are in TLS."""
        return self.is_outside if self.tls is None else self.tls

    @property
    def is_plain_outside(self) -> bool:
        """Whether other machines may reach it without TLS, which is refused."""
        return self.is_outside and not self.encrypted

    def same_as(self, other: Access) -> bool:
        """Whether both mean the same, whatever they leave out."""
        return replace(self, tls=self.encrypted) == replace(other, tls=other.encrypted)

    def __str__(self) -> str:
        """Return it in words, for messages."""
        words = ["TLS" if self.encrypted else "no TLS"]
        words += [f"listening on {self.listen} as well"] if self.listen else []
        words += [f"as {', '.join(self.names)}"] if self.names else []
        return ", ".join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Uplink:
    """A way to the outside of the lab; at most one of both is given.

    Attributes:
        interface: The machine's interface that connections leave by; that of its default route unless given.
        namespace: The network namespace (`ip netns`) that is the outside; the machine's own unless given.
    """

    interface: str | None = None
    namespace: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node with everything the file says about it.

    Attributes:
        id: Its number, from 1.
        name: What it can be reached by; `node-<id>` unless the file gives one.
        labels: The user's own words about it, for selectors.
        external: Whether it is run by a program of the user's own and not started by us.
        prefixes: Networks behind it, which the lab routes to it, in CIDR notation.
        uplink: Its way to the outside, if it has one.
        sysctls: Kernel settings of its network namespace, by name.
        mtu: Largest packet of its TUN interface, in bytes.
        offload: `auto` carries super-packets where the kernel can; `off` never does.
        num_tun_queues: Queues of the TUN interface.
        operating_mode: How it carries TCP: `normal` as packets, `max` spliced.
        max_server_port: Port of its SOCKS5 listener in mode `max`.
        socks5_username: What SOCKS5 clients must give; empty without a password.
        socks5_password: See `socks5_username`.
        channel_capacity: Messages kept for a Python receiver.
        channel_backpressure: Whether a full receiver grows, up to 32 MB, instead of losing.
        ready_grace_ms: How long a lossless sender waits for its receivers to be ready.
        peer_report_timeout_ms: How long a silent receiver is waited for.
        start_timeout_ms: How long a lossless receive call waits for its sender.
        window_bytes: The most that a lossless sender has under way.
    """

    id: int
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    external: bool = False
    prefixes: tuple[str, ...] = ()
    uplink: Uplink | None = None
    sysctls: Mapping[str, str] = field(default_factory=dict)
    mtu: int = 1_500
    offload: str = "auto"
    num_tun_queues: int = 1
    operating_mode: str = "normal"
    max_server_port: int = 8_081
    socks5_username: str = ""
    socks5_password: str = field(default="", repr=False)
    channel_capacity: int = 1_000
    channel_backpressure: bool = False
    ready_grace_ms: int = 10_000
    peer_report_timeout_ms: int = 15_000
    start_timeout_ms: int = 600_000
    window_bytes: int = 8_388_608


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One link, `a < b`; `forward` is what happens to packets from `a` to `b`.

    Attributes:
        forward_down: Packets from `a` to `b` are dropped until the link is brought up.
        backward_down: Those from `b` to `a` are.
    """

    a: int
    b: int
    forward: LinkSpec = PLAIN
    backward: LinkSpec = PLAIN
    forward_down: bool = False
    backward_down: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One explicit route as directed edges, in the order of the file.

    `path` is kept where the route is a plain sequence of nodes. Several next hops at a node mean a copy to
    each. Flows of a pair with several routes are spread over them by `weight`. A `computed` one is one of the
    `paths` of the topology.
    """

    src: int
    dst: int
    edges: tuple[tuple[int, int], ...]
    path: tuple[int, ...] | None = None
    weight: float = 1.0
    computed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """User-space flows of one pair of nodes; exactly one of `size_bytes` and `duration_ms` is there.

    Attributes:
        src: The node that sends.
        dst: The node that receives.
        size_bytes: Payload to transfer.
        duration_ms: How long the source sends.
        rate_bps: The most payload that the source sends, in bits per second.
        weight: Its weight at links whose scheduler knows weights.
        transport: `tcp` or `lossless_unicast`.
        count: How many such flows there are.
        route: The path of the explicit route that it takes.
    """

    src: int
    dst: int
    size_bytes: int | None = None
    duration_ms: int | None = None
    rate_bps: int | None = None
    weight: int | None = None
    transport: str = "tcp"
    count: int = 1
    route: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Generator:
    """Which generator made the links and from what; a picture is laid out by it."""

    type: str
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Output:
    """What the output of a command has to be.

    Attributes:
        how: `equals` (without white space at its ends), `contains`, or `matches`, a regular expression that
            is searched for, where `^` and `$` are the ends of lines.
        text: The text or expression.
    """

    how: str
    text: str

    def holds(self, output: str) -> bool:
        """Whether an output is as expected."""
        if self.how == "contains":
            return self.text in output
        if self.how == "matches":
            return re.search(self.text, output, re.MULTILINE) is not None
        return output.strip() == self.text.strip()

    def __str__(self) -> str:
        return f"`{self.text}`" if self.how == "equals" else f"text that {self.how} `{self.text}`"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabTest:
    """One test of a lab, with its nodes found.

    Attributes:
        name: What it is called in the result.
        kind: What is tested.
        sources: The nodes at which it begins, or in which it runs.
        targets: The nodes at which it ends; of `route`, the last one.
        wait_s: How long it is tried again until it holds.
        timeout_s: When an attempt is ended.
        port: Of `tcp`.
        url: Of `http`.
        status: Of `http`, the status that is expected.
        command: Of `command`, its words.
        exit_code: Of `command`, what is expected.
        output: Of `command`, what is expected of its output.
        route: Of `route`, all nodes in order.
        least: Of measurements, the smallest value: a rate, a share or a duration.
        most: Of measurements, the largest value.
        packets: Of `loss` and `delay`, how many are sent.
        duration_s: Of `throughput`, how long it is measured.
        written: The test as the file has it, for writing it again.
    """

    name: str
    kind: LabTestKindName
    sources: tuple[int, ...]
    targets: tuple[int, ...] = ()
    wait_s: float = 0.0
    timeout_s: float = 30.0
    port: int = 0
    url: str = ""
    status: int = 200
    command: tuple[str, ...] = ()
    exit_code: int = 0
    output: Output | None = None
    route: tuple[int, ...] = ()
    least: Rate | Duration | float | None = None
    most: Rate | Duration | float | None = None
    packets: int = 0
    duration_s: float = 2.0
    written: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Each source with each target, none with itself."""
        return tuple((a, b) for a in self.sources for b in self.targets if a != b)


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """A whole lab as the file means it.

    Attributes:
        name: The lab's name unless the user gives another.
        seed: Drives every draw.
        nodes: All nodes by id, from 1; numbers of removed ones are missing.
        links: All links, ordered by their ends.
        routing: `shortest_path`, or `none` for explicit routes alone.
        metric: What makes a path short: `hops`, `delay` or `inverse_rate`.
        paths: How many shortest paths each pair of nodes has.
        disjoint: Whether these share no link.
        routes: Explicit routes, those of a function included.
        flows: User-space flows that start when the lab is ready, in the order of the file.
        services: Programs that are started in nodes, each after those it depends on.
        transport: What carries links between processes: `auto`, `unix` or `tcp`.
        subnet: The lab's TUN network; node n has its first address plus n.
        ipv6: Its IPv6 network, likewise; empty for none.
        generator: Where the links came from, if a generator was used.
        controller: Where the controller is reached, and whether with TLS.
        metrics_interval_ms: How often nodes report their counters in milliseconds; 0 for never.
        metrics_keep_s: Seconds for which the reports are kept.
        tests: What has to hold in the lab, in the order of the file.
        function: The function that returned some of the routes, as `FILE.py:NAME`; empty for none.
        warnings: What is allowed but probably not meant.
        file: The file as the user typed it, for messages.
    """

    name: str
    nodes: Mapping[int, Node]
    seed: int = 1
    links: tuple[Link, ...] = ()
    routing: str = "shortest_path"
    metric: str = "hops"
    paths: int = 1
    disjoint: bool = False
    routes: tuple[Route, ...] = ()
    flows: tuple[Flow, ...] = ()
    services: tuple[Service, ...] = ()
    transport: str = "auto"
    subnet: str = "10.0.0.0/16"
    controller: Access = Access()
    metrics_interval_ms: int = 1_000
    metrics_keep_s: int = 3_600
    ipv6: str = ""
    tests: tuple[LabTest, ...] = ()
    generator: Generator | None = field(default=None, compare=False)
    function: str = field(default="", compare=False)
    warnings: tuple[Problem, ...] = field(default=(), compare=False)
    file: str = field(default="", compare=False)

    def address(self, node: int) -> str:
        """Return a node's address on the lab's TUN network."""
        return str(ipaddress.IPv4Network(self.subnet)[node])

    def address6(self, node: int) -> str | None:
        """Return a node's IPv6 address on that network; None without one, or with too small an MTU."""
        if not self.ipv6 or self.nodes[node].mtu < ipv6.LEAST_MTU:
            return None
        return ipv6.address6(self.ipv6, node)

    @property
    def base_addr(self) -> str:
        """Return the first address of the TUN network."""
        return str(ipaddress.IPv4Network(self.subnet).network_address)

    @property
    def net_mask(self) -> str:
        """Return the mask of the TUN network."""
        return str(ipaddress.IPv4Network(self.subnet).netmask)

    def neighbours(self, node: int) -> tuple[int, ...]:
        """Return the nodes at the other ends of a node's links, in order."""
        ends = [link.b if link.a == node else link.a for link in self.links if node in (link.a, link.b)]
        return tuple(sorted(ends))
