"""Build the deployment plan: addresses, ports, sockets, tokens and mounts of every part."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from orchestrator import __version__
from orchestrator.errors import UsageError
from orchestrator.plan.behind import forwarding, prefix_routes, uplink_of
from orchestrator.plan.containers import DATABASE_SOCKET, LINKS, plan_containers
from orchestrator.plan.machines import buffer_sysctls, hostname
from orchestrator.plan.model import (
    ControllerPlan,
    Database,
    DeploymentPlan,
    HostEntry,
    Images,
    NodePlan,
    Secrets,
)
from orchestrator.plan.paths import computed_routes
from orchestrator.plan.ttl import ttl_mode
from orchestrator.plan.user_services import plan_instances
from orchestrator.protocol import node_token
from orchestrator.topology import USER_SPACE_BASE, Node, Topology, Uplink

__all__ = ["CONTROLLER_PORT", "LINK_PORT", "build"]

CONTROLLER_PORT = 3_000
"""Where the controller listens inside its container; Nextmini's port."""

LINK_PORT = 8_080
"""Where a node in a container takes links; Nextmini's port."""

# Host ports of neighbours of external nodes when no free ones were searched, as for `nm render`.
_LINK_PORTS_FROM = 18_080
_CONNECT_MS = 5_000  # to a controller that was there first
_LAB = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")


def build(
    topology: Topology,
    *,
    lab: str | None = None,
    backend: str = "native",
    run_id: str = "",
    home: str = "",
    external: Collection[int] = (),
    controller_port: int = CONTROLLER_PORT,
    link_ports: Mapping[int, int] | None = None,
    secrets: Secrets | None = None,
    db: Database | None = None,
    subnet: str | None = None,
    images: Images | None = None,
    ready_timeout: float = 60.0,
    tun_device: str = "/dev/net/tun",
    link_directory: str = "",
    restart: bool = True,
    ttl: str | None = None,
    machine: Collection[str] = (),
) -> DeploymentPlan:
    """Return the plan of one lab.

    Args:
        topology: What is meant.
        lab: The lab's name; the topology's unless given.
        backend: `docker` or `native`.
        run_id: Marks everything that this start creates.
        home: The folder that keeps the lab, so that `gc` can tell one user's containers from another's.
        external: Further external nodes, run by programs of the user.
        controller_port: The port on this machine's loopback where the controller is reached.
        link_ports: Ports on this machine's loopback for the neighbours of external nodes.
        secrets: Tokens and password; generated unless given.
        db: Where Postgres is; for docker it is the lab's own container.
        subnet: The container network's subnet; the engine's choice unless given.
        images: Names of the images; those of this version unless given.
        ready_timeout: Seconds that the nodes may take to become ready.
        tun_device: The TUN clone device of this machine.
        link_directory: native: the folder for the sockets of links between processes; none without it.
        restart: docker: whether the engine starts containers again that end.
        ttl: What relays do with TTL; chosen by the longest path unless given.
        machine: docker: addresses of this machine, which nodes do not reach over an uplink.

    Raises:
        UsageError: The lab's name, an external node, an uplink or the subnet cannot be used.
    """
    name = _checked_name(lab or topology.name)
    docker = backend == "docker"
    marked = _with_external_nodes(topology, external)
    if docker:
        _check_uplinks(marked)
    shared = _Shared(
        topology=marked,
        lab=name,
        backend=backend,
        secrets=secrets or Secrets.generate(),
        port=controller_port,
        published=_published(marked, link_ports or {}) if docker else {},
        ready_timeout_ms=_milliseconds(ready_timeout),
        ttl=ttl or ttl_mode(marked),
        tun_device=tun_device,
        link_directory=link_directory,
        prefixes=prefix_routes(marked),
    )
    plan = DeploymentPlan(
        lab=name,
        backend=backend,
        run_id=run_id,
        home=home,
        version=__version__,
        topology=marked,
        nodes=tuple(_node(shared, node) for node in marked.nodes.values()),
        controller=_controller(shared, db),
        hosts=_hosts(marked),
        instances=plan_instances(marked, backend),
        buffers=buffer_sysctls(marked),
        secrets=shared.secrets,
        controller_url=shared.controller_url(inside=False),
        images=images or Images.of_version(__version__),
        restart=restart,
    )
    if not docker:
        return plan
    return plan_containers(plan, subnet, controller_port, shared.published, machine)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shared:
    """What the plans of the nodes and of the controller have in common; see `build`.

    Attributes:
        topology: With the nodes of `external` marked.
        port: Where a program on this machine reaches the controller.
        published: Host ports of containers that a program outside has to reach, by node.
        prefixes: The networks behind nodes; see `prefix_routes`.
    """

    topology: Topology
    lab: str
    backend: str
    secrets: Secrets
    port: int
    published: Mapping[int, int]
    ready_timeout_ms: int
    ttl: str
    tun_device: str
    link_directory: str
    prefixes: tuple[str, ...]

    @property
    def docker(self) -> bool:
        return self.backend == "docker"

    def controller_url(self, *, inside: bool) -> str:
        """Return where the controller is reached, from inside its container network or from this machine."""
        return (
            f"ws://controller:{CONTROLLER_PORT}/control" if inside else f"ws://127.0.0.1:{self.port}/control"
        )


def _checked_name(name: str) -> str:
    if _LAB.fullmatch(name):
        return name
    raise UsageError(
        f"`{name}` cannot be a lab's name",
        id="lab.name",
        found=name,
        expected="small letters, digits and `-`, at most 40",
        hint="containers, networks and folders are named after it",
    )


def _with_external_nodes(topology: Topology, external: Collection[int]) -> Topology:
    unknown = sorted(set(external) - set(topology.nodes))
    if unknown:
        raise UsageError(
            f"node {unknown[0]} cannot be external: it is not in the topology",
            id="topology.unknown-node",
            found=str(unknown[0]),
            expected=f"1 to {max(topology.nodes)}",
        )
    outward = next((number for number in sorted(external) if topology.nodes[number].uplink), None)
    if outward is not None:
        raise UsageError(
            f"node {outward} cannot be external: it has an uplink",
            id="topology.uplink-external",
            found=str(outward),
            expected="a node without `uplink`",
        )
    nodes = {
        number: replace(node, external=True) if number in external else node
        for number, node in topology.nodes.items()
    }
    return replace(topology, nodes=nodes)


def _check_uplinks(topology: Topology) -> None:
    """Refuse what a container's way out, the engine's network, cannot do."""
    for node in topology.nodes.values():
        if node.uplink not in (None, Uplink()):
            raise UsageError(
                f"the uplink of node {node.id} names an interface or a namespace, which docker has no way to",
                id="uplink.backend",
                expected="`uplink: true`, which is the network of the engine",
                hint="`--backend native`, or `uplink: true`",
            )


def _published(topology: Topology, given: Mapping[int, int]) -> dict[int, int]:
    """Return a host port for every container that a program outside has to reach."""
    external_nodes = {node.id for node in topology.nodes.values() if node.external}
    beside: set[int] = set()
    for link in topology.links:
        if link.a in external_nodes:
            beside.add(link.b)
        if link.b in external_nodes:
            beside.add(link.a)
    return {node: given.get(node, _LINK_PORTS_FROM + node) for node in sorted(beside - external_nodes)}


def _database(given: Database | None, shared: _Shared) -> Database:
    password = shared.secrets.db_password
    if shared.docker:
        return Database(host=DATABASE_SOCKET, password=password)
    return given or Database(password=password)


def _node(shared: _Shared, node: Node) -> NodePlan:
    topology, docker = shared.topology, shared.docker
    contained = docker and not node.external
    port = shared.published.get(node.id, 0)
    return NodePlan(
        node_id=node.id,
        name=node.name,
        lab=shared.lab,
        seed=topology.seed,
        external=node.external,
        controller_addr=shared.controller_url(inside=contained),
        controller_token=node_token(shared.secrets.node_key, node.id),
        # All parts of a lab start at once, and the controller may be the last.
        controller_connect_timeout_ms=_CONNECT_MS if node.external else shared.ready_timeout_ms,
        # Nodes under one name reach each other at private addresses; an external node outside the containers
        # cannot.
        private_network_name=f"nm-{shared.lab}" if contained or not docker else f"host-{shared.lab}",
        private_network_interface="eth0" if contained else "lo",
        private_network_addr="auto" if contained else "127.0.0.1",
        private_network_port=LINK_PORT if contained else 0,
        public_network_addr=f"127.0.0.1:{port}" if port else "",
        public_network_port=port,
        tun_interface_name="utun",
        mtu=node.mtu,
        # An external node's program decides itself, and needs no permission to create an interface.
        enable_local_interface=not node.external,
        num_tun_queues=node.num_tun_queues,
        offload=node.offload,
        tun_device="/dev/net/tun" if contained else shared.tun_device,
        channel_capacity=node.channel_capacity,
        channel_backpressure=node.channel_backpressure,
        protocol=topology.transport,
        link_directory=LINKS if contained else "" if docker else shared.link_directory,
        operating_mode=node.operating_mode,
        max_server_port=node.max_server_port,
        socks5_username=node.socks5_username,
        socks5_password=node.socks5_password,
        ttl_mode=shared.ttl,
        user_space_client_port=45_535,
        user_space_server_port=8_888,
        local_address=topology.address(node.id),
        net_mask=topology.net_mask,
        base_addr=topology.base_addr,
        ipv6=topology.ipv6,
        prefixes=shared.prefixes,
        uplink=uplink_of(topology, node),
        restart_on_disconnect=True,
        ready_grace_ms=node.ready_grace_ms,
        peer_report_timeout_ms=node.peer_report_timeout_ms,
        start_timeout_ms=node.start_timeout_ms,
        window_bytes=node.window_bytes,
        hostname=hostname(node),
        sysctls={**forwarding(node), **node.sysctls},
        outside=node.uplink,
        file=f"node-{node.id}.toml",
    )


def _controller(shared: _Shared, db: Database | None) -> ControllerPlan:
    topology, secrets = shared.topology, shared.secrets
    return ControllerPlan(
        lab=shared.lab,
        seed=topology.seed,
        backend=shared.backend,
        # Inside a container every address is the container's own; what the outside sees is decided by
        # `ports`.
        host="0.0.0.0" if shared.docker else "127.0.0.1",
        port=CONTROLLER_PORT if shared.docker else shared.port,
        base_addr=topology.base_addr,
        net_mask=topology.net_mask,
        multicast_pool_base="239.255.0.0",
        multicast_pool_mask="255.255.0.0",
        user_space_base_addr=USER_SPACE_BASE,
        external_base_addr="172.16.8.3",
        max_server_port=8_081,
        protocol="tcp",
        scheduler_type="fifo",
        node_key=secrets.node_key,
        operator_token=secrets.operator_token,
        link_secret=secrets.link_secret,
        ready_timeout_ms=shared.ready_timeout_ms,
        metrics_interval_ms=topology.metrics_interval_ms,
        metrics_keep_s=topology.metrics_keep_s,
        db=_database(db, shared),
        routing=topology.routing,
        metric=topology.metric,
        nodes=tuple(topology.nodes.values()),
        public_network_addrs={node: f"127.0.0.1:{port}" for node, port in shared.published.items()},
        links=topology.links,
        routes=(*topology.routes, *computed_routes(topology)),
        flows=topology.flows,
        file="controller.toml",
    )


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _hosts(topology: Topology) -> tuple[HostEntry, ...]:
    entries = [HostEntry(address="127.0.0.1", names=("localhost",))]
    taken = {node.name for node in topology.nodes.values()}
    for node in topology.nodes.values():
        names = dict.fromkeys((node.name, f"node-{node.id}"))
        # What a program gets when it asks its own host name has to resolve, too.
        if hostname(node) not in taken:
            names[hostname(node)] = None
        entries.append(HostEntry(address=topology.address(node.id), names=tuple(names)))
        if address := topology.address6(node.id):
            entries.append(HostEntry(address=address, names=tuple(names)))
    return tuple(entries)
