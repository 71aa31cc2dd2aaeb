"""Choose free TCP ports and a free container subnet.

A port is needed before the process that will listen on it exists, because other files name it. It is taken
from below the kernel's ephemeral range, so that no outgoing connection can use it meanwhile, and not from the
ports that the state files of other labs in this home list.
"""

from __future__ import annotations

import ipaddress
import random
import socket
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from orchestrator.deploy import state
from orchestrator.deploy.home import Home
from orchestrator.errors import HostNotFit

PORTS = range(20_000, 32_000)
"""Debian's ephemeral range starts at 32768; well-known services live below 20000."""

POOLS = ("172.16.0.0/12", "10.128.0.0/9", "192.168.0.0/16")
"""Private ranges for container networks. The lab's own 10.0.0.0/16 is left out: it is inside the nodes."""

CHOICE = 200
"""From among how many free subnets one is taken; 256 small ones block one of the engine's defaults."""


def free_ports(home: Home, count: int, listen: str = "") -> list[int]:
    """Return TCP ports that are free on loopback and not assigned to another lab.

    Args:
        home: Where the labs are.
        count: How many.
        listen: A further address of this machine on which they have to be free.

    Raises:
        HostNotFit: Far too many random ports were taken, or this machine does not have the further address
            (`host.listen`).
    """
    addresses = ["127.0.0.1", *([listen] if listen else ())]
    if listen and not _can_bind(listen, 0):
        raise HostNotFit(
            f"{listen} is not an address of this machine, so that the controller cannot listen on it",
            id="host.listen",
            found=listen,
            hint="`ip address` shows those that it has",
        )
    given = {port for lab in home.labs() if (note := state.read(lab)) for port in note.ports}
    found: list[int] = []
    for port in random.SystemRandom().sample(PORTS, min(len(PORTS), 300 + 10 * count)):
        if len(found) == count:
            break
        if port not in given and all(_can_bind(address, port) for address in addresses):
            found.append(port)
    if len(found) < count:
        where = " and ".join(addresses)
        raise HostNotFit(f"no {count} free TCP ports were found on {where}", id="host.no-port")
    return found


def free_subnet(hosts: int, used: Iterable[str]) -> str:
    """Return a private subnet with room for `hosts` containers that overlaps none of `used` and no route.

    It is one of several that are free: another home that chooses at the same moment hardly takes the same,
    and a lab whose network was removed finds its subnet still free.

    Args:
        hosts: How many addresses are needed, gateway not counted.
        used: Subnets in CIDR notation that are taken, such as those of the engine's networks.

    Raises:
        HostNotFit: Everything is taken.
    """
    # The network's own address, the gateway's and the broadcast: `hosts + 3` addresses.
    prefix = min(24, 32 - (hosts + 2).bit_length())
    taken = [*_networks(used), *_networks(host_routes()), ipaddress.ip_network("10.0.0.0/16")]
    for pool in POOLS:
        # From the far end: the engine's own defaults begin at the near end.
        every = reversed(list(ipaddress.IPv4Network(pool).subnets(new_prefix=max(prefix, 16))))
        free = (each for each in every if not any(each.overlaps(other) for other in taken))
        if choice := list(islice(free, CHOICE)):
            return str(random.SystemRandom().choice(choice))
    raise HostNotFit(
        f"no free private subnet for {hosts} containers",
        id="host.no-subnet",
        hint="`docker network prune` removes networks that nothing uses",
    )


def host_routes(table: Path = Path("/proc/net/route")) -> list[str]:
    """The IPv4 networks that this machine already routes, without the default route."""
    try:
        lines = table.read_text().splitlines()[1:]
    except OSError:
        return []
    routes = []
    for line in lines:
        _interface, destination, _gateway, _flags, _ref, _use, _metric, mask = line.split()[:8]
        length = int(mask, 16).bit_count()
        if length:
            address = ipaddress.ip_address(int.from_bytes(bytes.fromhex(destination), "little"))
            routes.append(f"{address}/{length}")
    return routes


def _networks(texts: Iterable[str]) -> list[ipaddress.IPv4Network]:
    networks = []
    for text in texts:
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            continue
        if isinstance(network, ipaddress.IPv4Network):
            networks.append(network)
    return networks


def _can_bind(address: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
