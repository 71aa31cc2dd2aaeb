"""Plan the containers of the docker backend: Postgres, the controller, and one per node.

No container is privileged. Every root file system is read-only and every capability dropped; a node gets
NET_ADMIN and the TUN device back, which is what making an interface takes. Ports are published on this
machine's loopback alone. Processes, logs and files in memory are bounded; memory is not, because only the
user knows how large a payload is.

Postgres has no network: the controller reaches its socket through a volume that no other container has.

A node's file holds its token. In its image the folder of the file is closed even to root, so it takes
DAC_OVERRIDE to open it. The entrypoint opens it, and gives up that capability (with SETPCAP) before it
becomes the agent; commands from `nm exec` begin without it. So neither root nor any other user of a node can
read the file; code of a role can, because it runs in the agent's own process.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from dataclasses import replace

from orchestrator.errors import UsageError
from orchestrator.plan.model import (
    Bind,
    DeploymentPlan,
    HealthCheck,
    NetworkPlan,
    NodePlan,
    ServicePlan,
    VolumePlan,
)
from orchestrator.plan.user_containers import plan_user_containers, plan_user_volumes

__all__ = ["DATABASE_SOCKET", "LINKS", "plan_containers"]

_READY = ("test", "-f", "/run/nm/ready")

LINKS = "/links"
"""Where every node's container, and no other, has the sockets of all nodes of the lab on its machine."""

DATABASE_SOCKET = "/postgres"
"""Where the containers of Postgres and of the controller, and no other, have the socket of Postgres."""

NODE_PIDS = 4_096
"""Processes and threads of a node: room for any test program, and an eighth of the numbers (32,768) that a
kernel gives out by default, so that a fork bomb in one node leaves the machine usable."""

SERVICE_PIDS = 512
"""Postgres starts a process per connection, the controller a few threads; neither comes near a hundred."""

# Volumes in memory, empty again when no container uses them. They hold names of sockets and nothing else, so
# a container cannot fill the machine through them. Postgres is no root, and alone with the controller.
_LINKS_IN_MEMORY = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=0700"}
_SOCKET_IN_MEMORY = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=1777"}

# Programs in a node keep what they write under /tmp, such as a received payload; half of the memory there is,
# which is what the kernel allows otherwise, would be too much for one of many nodes.
_NODE_FILES = ("/tmp:size=1g", "/run:size=16m")
_SERVICE_FILES = ("/tmp:size=64m", "/run:size=16m")

# In the container's own namespace. Ping without a capability: unprivileged ICMP sockets for every group. And
# the longest reach, because an emulated network may be wider than the 63 relays that packets cross otherwise.
_SYSCTLS = {"net.ipv4.ping_group_range": "0 2147483647", "net.ipv4.ip_default_ttl": "255"}

_IPV6_SYSCTLS = {
    # The kernel's defaults for interfaces that are made later, such as the node's: the engine switches IPv6
    # off, and a container cannot change it itself. They say what the node sets where it may.
    "net.ipv6.conf.default.disable_ipv6": "0",
    "net.ipv6.conf.default.addr_gen_mode": "1",
    "net.ipv6.conf.default.accept_ra": "0",
    "net.ipv6.conf.default.router_solicitations": "0",
    "net.ipv6.conf.default.hop_limit": "255",
    # A program that talks to its own node.
    "net.ipv6.conf.lo.disable_ipv6": "0",
}


def plan_containers(
    plan: DeploymentPlan,
    subnet: str | None,
    controller_port: int,
    published: Mapping[int, int],
    machine: Collection[str],
) -> DeploymentPlan:
    """Return the plan with its containers, network and volume.

    Raises:
        UsageError: The subnet is none, has no room for all containers, or overlaps the lab's own network.
    """
    contained = [node for node in plan.nodes if not node.external]
    if subnet is not None:
        _check_subnet(plan, subnet, len(contained) + 1)
    services = [_postgres(plan), _controller(plan, controller_port)]
    services += [_node(plan, node, published.get(node.node_id), machine) for node in contained]
    return replace(
        plan,
        services=tuple(services),
        user_containers=plan_user_containers(plan, _labels(plan, "service")),
        network=NetworkPlan(name=f"nm-{plan.lab}", subnet=subnet, labels=_labels(plan, "network")),
        volumes=(
            VolumePlan(key="postgres", name=f"nm-{plan.lab}-postgres", labels=_labels(plan, "postgres")),
            _in_memory(plan, "links", _LINKS_IN_MEMORY),
            _in_memory(plan, "socket", _SOCKET_IN_MEMORY),
            *plan_user_volumes(plan, _labels(plan, "volume")),
        ),
    )


def _in_memory(plan: DeploymentPlan, key: str, options: Mapping[str, str]) -> VolumePlan:
    return VolumePlan(key=key, name=f"nm-{plan.lab}-{key}", labels=_labels(plan, key), options=options)


def _check_subnet(plan: DeploymentPlan, subnet: str, containers: int) -> None:
    expected = "a private IPv4 network such as `172.28.5.0/24`"
    try:
        network = ipaddress.IPv4Network(subnet)
    except ValueError:
        raise UsageError(
            f"`{subnet}` is no subnet", id="subnet.invalid", found=subnet, expected=expected
        ) from None
    room = network.num_addresses - 3  # the network's own, the broadcast and the gateway's
    if room < containers:
        prefix = 32 - (containers + 2).bit_length()
        raise UsageError(
            f"the subnet {subnet} has room for {max(room, 0)} containers, but the lab has {containers}",
            id="subnet.too-small",
            found=subnet,
            expected=f"room for {containers} containers",
            hint=f"a /{prefix} is large enough",
        )
    inner = ipaddress.IPv4Network(plan.topology.subnet)
    if network.overlaps(inner):
        raise UsageError(
            f"the subnet {subnet} overlaps {inner}, the nodes' own network",
            id="subnet.overlap",
            found=subnet,
            expected=expected,
        )
    for node in plan.topology.nodes.values():
        for behind in node.prefixes:
            if network.overlaps(ipaddress.IPv4Network(behind)):
                raise UsageError(
                    f"the subnet {subnet} overlaps {behind}, a prefix of node {node.id}",
                    id="subnet.overlap",
                    found=subnet,
                    expected=expected,
                )


def _labels(plan: DeploymentPlan, role: str, node: NodePlan | None = None) -> dict[str, str]:
    labels = {"nm.lab": plan.lab, "nm.run": plan.run_id, "nm.role": role}
    if plan.home:
        labels["nm.home"] = plan.home
    return labels | {"nm.node": str(node.node_id)} if node else labels


def _postgres(plan: DeploymentPlan) -> ServicePlan:
    return ServicePlan(
        name="postgres",
        container_name=f"nm-{plan.lab}-postgres",
        hostname="postgres",
        image=plan.images.postgres,
        command=("-c", f"unix_socket_directories={DATABASE_SOCKET}"),
        labels=_labels(plan, "postgres"),
        environment={
            "POSTGRES_USER": plan.controller.db.user,
            "POSTGRES_DB": plan.controller.db.database,
            "POSTGRES_PASSWORD_FILE": "/etc/nm/postgres-password",
        },
        binds=(Bind(source="./postgres-password", target="/etc/nm/postgres-password"),),
        volumes={"postgres": "/var/lib/postgresql/data", "socket": DATABASE_SOCKET},
        networked=False,
        tmpfs=_SERVICE_FILES,
        pids_limit=SERVICE_PIDS,
        cap_add=(),
        devices=(),
        sysctls={},
        ports=(),
        depends_on=(),
        healthcheck=_probed("pg_isready", "-q", "-h", DATABASE_SOCKET, "-U", plan.controller.db.user),
    )


def _controller(plan: DeploymentPlan, port: int) -> ServicePlan:
    return ServicePlan(
        name="controller",
        container_name=f"nm-{plan.lab}-controller",
        hostname="controller",
        image=plan.images.controller,
        command=("/etc/nm/controller.toml",),
        labels=_labels(plan, "controller"),
        environment=_environment(plan),
        binds=(Bind(source="./controller.toml", target="/etc/nm/controller.toml"),),
        volumes={"socket": DATABASE_SOCKET},
        networked=True,
        tmpfs=_SERVICE_FILES,
        pids_limit=SERVICE_PIDS,
        cap_add=(),
        devices=(),
        sysctls={},
        ports=(f"127.0.0.1:{port}:{plan.controller.port}",),
        depends_on=("postgres",),
        healthcheck=_probed(*_READY),
    )


def _node(
    plan: DeploymentPlan, node: NodePlan, published: int | None, machine: Collection[str]
) -> ServicePlan:
    return ServicePlan(
        name=f"node-{node.node_id}",
        container_name=f"nm-{plan.lab}-{node.name}",
        hostname=node.hostname,
        image=plan.images.node,
        command=(f"/etc/nm/{node.file}",),
        labels=_labels(plan, "node", node),
        environment={**_environment(plan), **_uplink(node, machine)},
        binds=(
            Bind(source=f"./{node.file}", target=f"/etc/nm/{node.file}"),
            Bind(source="./hosts", target="/etc/hosts"),
            # What the roles of a run read, such as a payload; filled when a run starts.
            Bind(source="./share", target="/share"),
        ),
        # Where nodes on one machine find each other's sockets. Every engine has a volume of its own, so that
        # nodes on different ones see none and go over TCP.
        volumes={"links": LINKS},
        networked=True,
        tmpfs=_NODE_FILES,
        pids_limit=NODE_PIDS,
        cap_add=("NET_ADMIN", "DAC_OVERRIDE", "SETPCAP"),
        devices=("/dev/net/tun:/dev/net/tun",),
        sysctls={**_SYSCTLS, **(_IPV6_SYSCTLS if node.ipv6 else {}), **plan.buffers, **node.sysctls},
        ports=(f"127.0.0.1:{published}:{node.private_network_port}",) if published else (),
        depends_on=("controller",),
        healthcheck=_probed(*_READY),
    )


def _uplink(node: NodePlan, machine: Collection[str]) -> dict[str, str]:
    """Return what the entrypoint has to know about the way out; see `orchestrator.node.uplinks`."""
    stated = {"NM_UPLINK": node.uplink}
    return {**stated, "NM_MACHINE": ",".join(sorted(machine))} if machine and node.outside else stated


def _probed(*test: str) -> HealthCheck:
    """Return a rare probe: nothing waits for it, and each costs the engine a process."""
    return HealthCheck(test=("CMD", *test), interval="30s", timeout="5s", retries=3, start_period="60s")


def _environment(plan: DeploymentPlan) -> dict[str, str]:
    return {"NM_LAB": plan.lab, "NM_RUN": plan.run_id}
