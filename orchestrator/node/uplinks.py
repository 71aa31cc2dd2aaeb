"""Connect nodes with an uplink to the outside.

`pasta` (https://passt.top) makes the interface `uplink0` in the node's network namespace and carries its TCP
and UDP over ordinary sockets of the machine, or of another network namespace. It needs no rule, no interface
and no setting there, and no root. In the node's namespace a table of nftables translates the addresses of
other nodes to that of the interface, and refuses what an uplink is not for: connections from the outside,
link-local addresses such as those of metadata services, and the machine's own addresses.

Nothing survives the host process, however it ends: the kernel kills `unshare` with the thread that started
it, with that the first process of its process namespace, and with that one all others.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from orchestrator import log
from orchestrator.errors import NmError

__all__ = ["INTERFACE", "local_addresses", "rules", "start"]

_logger = log.get(__name__)

INTERFACE = "uplink0"

# From the shared address space (RFC 6598), which no host outside of a provider's network has.
_ADDRESS, _GATEWAY, _PREFIX = "100.64.255.2", "100.64.255.1", "30"

START_S = 10.0
"""How long `pasta` may take to make its interface; it needs some 20 ms."""

_POLL_S = 0.02
_COMMAND_S = 10.0

ENDED = "the uplink ended"
_SCRIPT = f'while :; do "$@"; echo "{ENDED} with status $?" >&2; sleep 1; done'
"""Starts `pasta` again where it ends; `sh` stays the first process of the process namespace."""

_LINK_LOCAL = "169.254.0.0/16"


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
    machine = local_addresses(_run(node, [*enter, "cat", "/proc/self/net/fib_trie"], namespace))
    _run(node, [*inside, "nft", "-f", "-"], namespace, stdin=rules(machine))
    command = [*enter, "setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child=KILL"]
    command += ["sh", "-c", _SCRIPT, "uplink", *_pasta(namespace, outside["interface"])]
    with log_file.open("wb") as said:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            pass_fds=[namespace],
        )
    deadline = time.monotonic() + START_S
    while f"\n{INTERFACE}\t00000000\t" not in _run(node, [*inside, "cat", "/proc/self/net/route"], namespace):
        text = log_file.read_text(errors="replace")
        if process.poll() is not None or ENDED in text or time.monotonic() > deadline:
            process.kill()
            raise _failed(node, "pasta", text.replace("\n", "; ").strip("; ") or "it made no interface")
        time.sleep(_POLL_S)
    _logger.info("a node has a way out", node=node, interface=outside["interface"], namespace=where)


def rules(machine: Sequence[str]) -> str:
    """Return the nftables rules of a node with an uplink.

    Args:
        machine: Addresses that nobody may reach over it.
    """
    refused = ", ".join([_LINK_LOCAL, *machine])
    return f"""\
table ip nm_uplink {{
    chain translate {{
        type nat hook postrouting priority 100;
        oifname "{INTERFACE}" masquerade
    }}
    chain refused {{
        ip daddr {{ {refused} }} reject with icmp type admin-prohibited
    }}
    chain forwarded {{
        type filter hook forward priority 0;
        iifname "{INTERFACE}" ct state new drop
        oifname "{INTERFACE}" jump refused
    }}
    chain sent {{
        type filter hook output priority 0;
        oifname "{INTERFACE}" jump refused
    }}
}}
"""


def local_addresses(trie: str) -> list[str]:
    """Return the addresses of a network namespace beside loopback, from its `/proc/net/fib_trie`."""
    return sorted(set(_local(trie)))


def _local(trie: str) -> Iterator[str]:
    address = ""
    for line in trie.splitlines():
        words = line.split()
        if words[:1] == ["|--"]:
            address = words[1]
        elif words[:3] == ["/32", "host", "LOCAL"] and not address.startswith(("127.", "169.254.")):
            yield address


def _pasta(namespace: int, interface: str | None) -> list[str]:
    """Return the command; every way from the node to the machine's loopback, and back, is closed."""
    options = ["--foreground", "--stderr", "--quiet", "--ipv4-only", "--config-net", "--no-map-gw"]
    options += ["-t", "none", "-u", "none", "-T", "none", "-U", "none"]
    options += ["-I", INTERFACE, "-a", _ADDRESS, "-n", _PREFIX, "-g", _GATEWAY]
    if interface:
        options += ["--interface", interface, "--outbound-if4", interface]
    # It would become another user, who may not enter the node's namespace. It gives up the machine's file
    # system, and all capabilities that it does not need, in any case.
    options += ["--runas", "0:0", "--netns-only", "--no-netns-quit", "--netns", f"/proc/self/fd/{namespace}"]
    return ["pasta", *options]


def _run(node: int, argv: Sequence[str], namespace: int, stdin: str = "") -> str:
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            text=True,
            pass_fds=[namespace],
            timeout=_COMMAND_S,
            check=False,
            env={
                **os.environ,
                "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin",
            },
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _failed(node, argv[0], str(error)) from error
    if done.returncode:
        raise _failed(node, " ".join(argv[:5]), done.stderr.strip())
    return done.stdout


def _failed(node: int, what: str, why: str) -> NmError:
    return NmError(
        f"node {node} gets no way out: {what}: {why}",
        id="uplink.failed",
        hint="`nm doctor` names missing programs; the interface or namespace has to exist and have a route",
        exit_code=5,
    )
