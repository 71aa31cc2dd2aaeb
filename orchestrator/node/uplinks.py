"""Connect nodes with an uplink to the outside.

Natively, `pasta` (https://passt.top) makes the interface `uplink0` in the node's network namespace and
carries its TCP and UDP over ordinary sockets of the machine, or of another network namespace. It needs no
rule, no interface and no setting there, and no root. In the node's namespace a table of nftables translates
the addresses of other nodes to that of the interface, and refuses what an uplink is not for: connections
from the outside, link-local addresses such as those of metadata services, and the machine's own addresses.

A container has a way to the outside already, by its engine's network; there the table is all that it takes.

Nothing survives the host process, however it ends: the kernel kills `unshare` with the thread that started
it, with that the first process of its process namespace, and with that one all others.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrator import log, procfs
from orchestrator.errors import NmError

__all__ = ["INTERFACE", "networks_of", "pasta", "rules", "start", "start_in_container"]

_logger = log.get(__name__)

INTERFACE = "uplink0"
CONTAINER_INTERFACE = "eth0"
"""What engines call a container's interface in its first network."""

# Of `orchestrator.topology.UPLINK_NETWORK`, which no network behind a node may overlap.
_ADDRESS, _GATEWAY, _PREFIX = "100.64.255.2", "100.64.255.1", "30"

START_S = 10.0
"""How long `pasta` may take to make its interface; it needs some 20 ms."""

_POLL_S = 0.02
_COMMAND_S = 10.0

ENDED = "the uplink ended"
_SCRIPT = f'while :; do "$@"; echo "{ENDED} with status $?" >&2; sleep 1; done'
"""Starts `pasta` again where it ends; `sh` stays the first process of the process namespace."""

_LINK_LOCAL = "169.254.0.0/16"
_ZERO = "00000000"


def start(node: int, namespace: int, outside: Mapping[str, str | None], log_file: Path) -> None:
    """Give a node its way out, and return when it works. The caller is the main thread of the host process.

    Args:
        node: The node.
        namespace: Its network namespace, as an open file.
        outside: `interface` and `namespace` of the topology file; None where the machine's default is meant.
        log_file: Takes what `pasta` says.

    Raises:
        NmError: A program, the interface or the namespace is missing, or does not work.
    """
    where = outside["namespace"]
    enter = ["nsenter", f"--net=/run/netns/{where}", "--"] if where else []
    inside = ["nsenter", f"--net=/proc/self/fd/{namespace}", "--"]
    machine = procfs.local_addresses(_run(node, [*enter, "cat", "/proc/self/net/fib_trie"], namespace))
    _run(node, [*inside, "nft", "-f", "-"], namespace, stdin=rules(machine))
    command = [*enter, "setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child=KILL"]
    command += ["sh", "-c", _SCRIPT, "uplink", *pasta(namespace, outside["interface"])]
    with log_file.open("wb") as said:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            pass_fds=[namespace],
            env=_environment(),
        )
    deadline = time.monotonic() + START_S
    while f"\n{INTERFACE}\t{_ZERO}\t" not in _run(node, [*inside, "cat", "/proc/self/net/route"], namespace):
        text = log_file.read_text(errors="replace")
        if process.poll() is not None or ENDED in text or time.monotonic() > deadline:
            process.kill()
            raise _failed(node, "pasta", text.replace("\n", "; ").strip("; ") or "it made no interface")
        time.sleep(_POLL_S)
    _logger.info("a node has a way out", node=node, interface=outside["interface"], namespace=where)


def start_in_container(machine: Sequence[str]) -> None:
    """Let this container's kernel forward packets of other nodes to the outside.

    Args:
        machine: Addresses of the machine that runs the container.

    Raises:
        NmError: `nft` is missing, or the kernel refuses the rules.
    """
    networks = networks_of(CONTAINER_INTERFACE, Path("/proc/self/net/route").read_text())
    text = rules(machine, interface=CONTAINER_INTERFACE, beside=networks)
    _run(None, ["nft", "-f", "-"], stdin=text)
    _logger.info("the node has a way out", interface=CONTAINER_INTERFACE)


def rules(machine: Sequence[str], *, interface: str = INTERFACE, beside: Sequence[str] = ()) -> str:
    """Return the nftables rules of a node with an uplink.

    Args:
        machine: Addresses that nobody may reach over it.
        interface: The interface that leads outside.
        beside: Networks on that interface that only the node itself may reach: there its controller and the
            other containers are, whose addresses the lab does not know.
    """
    networks = [ipaddress.IPv4Network(each) for each in beside]
    elsewhere = [each for each in machine if not any(ipaddress.IPv4Address(each) in net for net in networks)]
    refused = ", ".join([_LINK_LOCAL, *elsewhere])
    forwarded = ", ".join([_LINK_LOCAL, *elsewhere, *beside])
    return f"""\
table ip nm_uplink {{
    chain translate {{
        type nat hook postrouting priority 100;
        oifname "{interface}" masquerade
    }}
    chain forwarded {{
        type filter hook forward priority 0;
        iifname "{interface}" ct state new drop
        oifname "{interface}" ip daddr {{ {forwarded} }} reject with icmp type admin-prohibited
    }}
    chain sent {{
        type filter hook output priority 0;
        oifname "{interface}" ip daddr {{ {refused} }} reject with icmp type admin-prohibited
    }}
}}
"""


def networks_of(interface: str, table: str) -> list[str]:
    """Return the networks that an interface is in, from `/proc/net/route`."""
    found = []
    for line in table.splitlines()[1:]:
        name, network, gateway, _flags, _references, _use, _metric, mask, *_ = line.split()
        if name == interface and gateway == _ZERO and mask != _ZERO:
            found.append(f"{_address(network)}/{int(mask, 16).bit_count()}")
    return found


def pasta(namespace: int, interface: str | None) -> list[str]:
    """Return the command that makes a native node's interface.

    Every way from the node to the machine's loopback, and back, is closed.
    """
    options = ["--foreground", "--stderr", "--quiet", "--ipv4-only", "--config-net", "--no-map-gw"]
    options += ["-t", "none", "-u", "none", "-T", "none", "-U", "none"]
    options += ["-I", INTERFACE, "-a", _ADDRESS, "-n", _PREFIX, "-g", _GATEWAY]
    if interface:
        options += ["--interface", interface, "--outbound-if4", interface]
    # It would become another user, who may not enter the node's namespace. It gives up the machine's file
    # system, and all capabilities that it does not need, in any case.
    options += ["--runas", "0:0", "--netns-only", "--no-netns-quit", "--netns", f"/proc/self/fd/{namespace}"]
    return ["pasta", *options]


def _address(stored: str) -> str:
    """Return an address that the kernel shows as a number in the machine's byte order."""
    return socket.inet_ntoa(int(stored, 16).to_bytes(4, sys.byteorder))


def _environment() -> dict[str, str]:
    """Return the environment of programs, with the folders of those that change the system in its PATH."""
    path = os.environ.get("PATH", os.defpath)
    return {**os.environ, "PATH": f"{path}:/usr/local/sbin:/usr/sbin:/sbin"}


def _run(node: int | None, argv: Sequence[str], *pass_fds: int, stdin: str = "") -> str:
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            text=True,
            pass_fds=pass_fds,
            timeout=_COMMAND_S,
            check=False,
            env=_environment(),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _failed(node, argv[0], str(error)) from error
    if done.returncode:
        raise _failed(node, " ".join(argv[:5]), done.stderr.strip())
    return done.stdout


def _failed(node: int | None, what: str, why: str) -> NmError:
    return NmError(
        f"{'the node' if node is None else f'node {node}'} gets no way out: {what}: {why}",
        id="uplink.failed",
        hint="`nm doctor` names missing programs; the interface or namespace has to exist and have a route",
        exit_code=5,
    )
