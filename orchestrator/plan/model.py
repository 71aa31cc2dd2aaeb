"""The data classes of a deployment plan.

Field names are the keys of the files that are rendered from them; `orchestrator.settings` describes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.impairment import trace_contents, trace_to_text
from orchestrator.plan.certificates import Certificates
from orchestrator.services import Instance
from orchestrator.topology import Flow, Link, Node, Route, Topology, Uplink

__all__ = [
    "Bind",
    "ControllerPlan",
    "Database",
    "DeploymentPlan",
    "HealthCheck",
    "HostEntry",
    "Images",
    "NetworkPlan",
    "NodePlan",
    "Secrets",
    "ServicePlan",
    "UserContainer",
    "VolumePlan",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """The tokens, keys and passwords of one run of one lab; never shown in a repr."""

    node_key: str = field(repr=False)
    operator_token: str = field(repr=False)
    link_secret: str = field(repr=False)
    db_password: str = field(repr=False)

    @classmethod
    def generate(cls) -> Secrets:
        """Draw new secrets of 256 bits each from the system's source."""
        import secrets

        def draw() -> str:
            return secrets.token_urlsafe(32)

        return cls(node_key=draw(), operator_token=draw(), link_secret=draw(), db_password=draw())


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """Where the controller finds Postgres; a `host` that starts with `/` is the folder of its socket."""

    user: str = "nm"
    password: str = field(default="", repr=False)
    host: str = "127.0.0.1"
    port: int = 5_432
    database: str = "nm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """The three images of the docker backend."""

    controller: str
    node: str
    postgres: str

    @classmethod
    def of_version(cls, version: str) -> Images:
        """Return the names that `make images` gives."""
        return cls(
            controller=f"nm-controller:{version}",
            node=f"nm-node:{version}",
            postgres=f"nm-postgres:{version}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePlan:
    """What `node-<n>.toml` will say, and where the file will be.

    `hostname`, `sysctls` and `outside`, its uplink, are not in it: they are what the node's machine has
    beside the node.
    """

    node_id: int
    name: str
    lab: str
    seed: int
    external: bool
    controller_addr: str
    controller_ca: str
    controller_token: str = field(repr=False)
    controller_connect_timeout_ms: int
    private_network_name: str
    private_network_interface: str
    private_network_addr: str
    private_network_port: int
    public_network_addr: str
    public_network_port: int
    tun_interface_name: str
    mtu: int
    enable_local_interface: bool
    num_tun_queues: int
    offload: str
    tun_device: str
    channel_capacity: int
    channel_backpressure: bool
    protocol: str
    link_directory: str
    operating_mode: str
    max_server_port: int
    socks5_username: str
    socks5_password: str = field(repr=False)
    ttl_mode: str
    user_space_client_port: int
    user_space_server_port: int
    local_address: str
    net_mask: str
    base_addr: str
    ipv6: str
    prefixes: tuple[str, ...]
    uplink: str
    restart_on_disconnect: bool
    ready_grace_ms: int
    peer_report_timeout_ms: int
    start_timeout_ms: int
    window_bytes: int
    hostname: str
    sysctls: Mapping[str, str]
    outside: Uplink | None
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerPlan:
    """What `controller.toml` will say."""

    lab: str
    seed: int
    backend: str
    host: str
    port: int
    listen: str
    tls_certificate: str
    tls_key: str
    base_addr: str
    net_mask: str
    ipv6: str
    multicast_pool_base: str
    multicast_pool_mask: str
    user_space_base_addr: str
    external_base_addr: str
    max_server_port: int
    protocol: str
    scheduler_type: str
    node_key: str = field(repr=False)
    operator_token: str = field(repr=False)
    link_secret: str = field(repr=False)
    ready_timeout_ms: int
    metrics_interval_ms: int
    metrics_keep_s: int
    db: Database
    routing: str
    metric: str
    nodes: tuple[Node, ...]
    public_network_addrs: Mapping[int, str]
    links: tuple[Link, ...]
    routes: tuple[Route, ...]
    flows: tuple[Flow, ...]
    file: str

    @property
    def traces(self) -> Mapping[str, str]:
        """The contents of the traces of links, as text, by digest."""
        found = trace_contents(spec for link in self.links for spec in (link.forward, link.backward))
        return {digest: trace_to_text(content) for digest, content in sorted(found.items())}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """A file of the run directory inside a container, read-only."""

    source: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """How the engine finds out that a container is well; no interpreter is started for it."""

    test: tuple[str, ...]
    interval: str
    timeout: str
    retries: int
    start_period: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePlan:
    """One container.

    Attributes:
        networked: Whether it is on the lab's container network; without it, it has loopback alone.
        tmpfs: Folders in memory with their options, as `/tmp:size=64m`.
        pids_limit: How many processes and threads it may have.
    """

    name: str
    container_name: str
    hostname: str
    image: str
    command: tuple[str, ...]
    labels: Mapping[str, str]
    environment: Mapping[str, str]
    binds: tuple[Bind, ...]
    volumes: Mapping[str, str]
    networked: bool
    tmpfs: tuple[str, ...]
    pids_limit: int
    cap_add: tuple[str, ...]
    devices: tuple[str, ...]
    sysctls: Mapping[str, str]
    ports: tuple[str, ...]
    depends_on: tuple[str, ...]
    healthcheck: HealthCheck

    @property
    def network(self) -> dict[str, object]:
        """Return its network as a compose file states it."""
        return {"networks": ["lab"]} if self.networked else {"network_mode": "none"}


@dataclass(frozen=True, slots=True, kw_only=True)
class UserContainer:
    """The container of a service of the user's own; `settings` are keys of a compose file."""

    name: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPlan:
    """The container network; without a subnet the engine takes one."""

    name: str
    subnet: str | None
    labels: Mapping[str, str]

    @property
    def ipam(self) -> dict[str, object]:
        """Return the address management as a compose file states it."""
        return {"config": [{"subnet": self.subnet}]} if self.subnet else {"driver": "default"}


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumePlan:
    """A volume that lives as long as the lab; `options` are the local driver's."""

    key: str
    name: str
    labels: Mapping[str, str]
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostEntry:
    """One line of the nodes' `/etc/hosts`."""

    address: str
    names: tuple[str, ...]


RESTARTS = 20
"""How often a container that fails is started again: with the engine's pauses one that fails at once is
given up after some ten minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentPlan:
    """Everything that will be written, and nothing that still has to be found out.

    Attributes:
        lab: The lab's name.
        backend: `docker` or `native`.
        run_id: Marks everything that this start of the lab creates.
        home: The folder that keeps the lab; empty for rendered files without a lab.
        version: The program's version, which is the images' too.
        topology: The topology with the nodes of `--external` marked.
        nodes: What each node's file says.
        controller: What the controller's file says.
        hosts: Names and addresses of all nodes.
        secrets: Tokens, keys and passwords.
        images: For docker.
        services: Containers, for docker.
        user_containers: Those of the instances, for docker.
        network: Their network, for docker.
        volumes: Their volumes, for docker.
        instances: The user's own services, one for each node that they run in.
        buffers: Kernel settings of all nodes that let TCP fill the links.
        restart: Whether containers that end are started again by the engine.
        controller_url: Where a program on this machine reaches the controller.
        certificates: For TLS to the controller; None without it.
    """

    lab: str
    backend: str
    run_id: str
    version: str
    topology: Topology
    nodes: tuple[NodePlan, ...]
    controller: ControllerPlan
    hosts: tuple[HostEntry, ...]
    secrets: Secrets
    controller_url: str
    images: Images
    home: str = ""
    certificates: Certificates | None = None
    buffers: Mapping[str, str] = field(default_factory=dict)
    instances: tuple[Instance, ...] = ()
    services: tuple[ServicePlan, ...] = ()
    user_containers: tuple[UserContainer, ...] = ()
    network: NetworkPlan | None = None
    volumes: tuple[VolumePlan, ...] = ()
    restart: bool = True

    @property
    def restart_policy(self) -> str:
        """Return the restart policy of all containers, as a compose file states it.

        The engine pauses longer after each death that follows another, up to a minute, and counts all of them
        for as long as the container lives; `nm up` resets the count.
        """
        return f"on-failure:{RESTARTS}" if self.restart else "no"

    @property
    def external(self) -> tuple[int, ...]:
        """Return the external nodes, run by programs of the user."""
        return tuple(node.node_id for node in self.nodes if node.external)
