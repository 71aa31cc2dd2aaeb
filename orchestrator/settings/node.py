"""Settings of a node (`node-<n>.toml`).

Key names are Nextmini's where it has the thing. The packet core reads the same file and is the authority on
the keys that concern packets; the agent reads it for its address, its token and its names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.fields import Boolean, Choice, Field, Integer, ListOf, Table, Text
from orchestrator.settings.forms import PORT_MOST, Address, Certificate
from orchestrator.settings.reading import read_file, read_table, with_defaults

__all__ = ["NODE_TABLE", "LosslessSettings", "NodeSettings", "load_node", "loads_node"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LosslessSettings:
    """How lossless sessions of this node wait.

    Attributes:
        ready_grace_ms: How long a sender waits for all receivers to say that they are ready.
        peer_report_timeout_ms: How long a silent receiver is waited for before it is named.
        start_timeout_ms: How long a receive call waits for its sender to begin.
        window_bytes: The most that may be under way to one receiver.
    """

    ready_grace_ms: int = 10_000
    peer_report_timeout_ms: int = 15_000
    start_timeout_ms: int = 600_000
    window_bytes: int = 8_388_608


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """Everything in a node's file; see `NODE_TABLE` for what each key means."""

    node_id: int
    controller_addr: str
    name: str = ""
    lab: str = ""
    seed: int = 0
    external: bool = False
    controller_ca: str = ""
    controller_token: str = field(default="", repr=False)
    controller_connect_timeout_ms: int = 5_000
    private_network_name: str = ""
    private_network_interface: str = ""
    private_network_addr: str = "auto"
    private_network_port: int = 0
    public_network_addr: str = ""
    public_network_port: int = 0
    tun_interface_name: str = "utun"
    mtu: int = 1_500
    enable_local_interface: bool = True
    num_tun_queues: int = 1
    offload: str = "auto"
    tun_device: str = "/dev/net/tun"
    network_namespace: str = ""
    channel_capacity: int = 1_000
    channel_backpressure: bool = False
    protocol: str = "auto"
    link_directory: str = ""
    operating_mode: str = "normal"
    max_server_port: int = 8_081
    socks5_username: str = ""
    socks5_password: str = field(default="", repr=False)
    ttl_mode: str = "uniform"
    user_space_client_port: int = 45_535
    user_space_server_port: int = 8_888
    local_address: str = ""
    net_mask: str = "255.255.0.0"
    base_addr: str = "10.0.0.0"
    ipv6: str = ""
    prefixes: tuple[str, ...] = ()
    uplink: str = "none"
    restart_on_disconnect: bool = True
    lossless: LosslessSettings = field(default_factory=LosslessSettings)
    path: str = ""


_MILLIS = Integer(1, 86_400_000, "a number of milliseconds")
_PREFIX = r"[0-9]+(?:\.[0-9]+){3}/[0-9]+ via [1-9][0-9]*"
_PORT = Integer(1, PORT_MOST, "a port")
_PORT_OR_ANY = Integer(0, PORT_MOST, "a port, or 0 for any")

_KEYS = {
    "node_id": Field(Integer(1, 2**32 - 1), "the node's number", required=True),
    "name": Field(Text(), "the node's name in the topology"),
    "lab": Field(Text(), "the lab it belongs to"),
    "seed": Field(Integer(), "the lab's seed"),
    "external": Field(Boolean(), "whether a user's own program is this node"),
    "controller_addr": Field(Text(), "websocket address of the controller", required=True),
    "controller_ca": Field(
        Certificate(), "the certificate authority of a controller at a `wss://` address, PEM"
    ),
    "controller_token": Field(Text(), "the node's own token, which authenticates it to the controller"),
    "controller_connect_timeout_ms": Field(_MILLIS, "how long the first connection may take"),
    "private_network_name": Field(Text(), "nodes of one name reach each other at private addresses"),
    "private_network_interface": Field(Text(), "the interface on that network"),
    "private_network_addr": Field(Text(), "our address on it; `auto` finds it out"),
    "private_network_port": Field(_PORT_OR_ANY, "the port of our link listener"),
    "public_network_addr": Field(Text(), "where others reach us from outside, host:port or nothing"),
    "public_network_port": Field(_PORT_OR_ANY, "the port that others use from outside"),
    "tun_interface_name": Field(Text(r"[!-~]{1,15}", "an interface name"), "the TUN interface"),
    "mtu": Field(Integer(576, PORT_MOST), "largest packet on the emulated network, in bytes"),
    "enable_local_interface": Field(Boolean(), "whether to make a TUN interface"),
    "num_tun_queues": Field(Integer(1, 256), "queues of the TUN interface"),
    "offload": Field(Choice("auto", "off"), "super-packets on TUN"),
    "tun_device": Field(Text(), "the TUN clone device"),
    "network_namespace": Field(Text(), "a network namespace to make TUN in"),
    "channel_capacity": Field(Integer(1, 16_777_216), "messages kept for a Python receiver"),
    "channel_backpressure": Field(Boolean(), "whether a full receiver grows, up to 32 MB, instead of losing"),
    "protocol": Field(
        Choice("auto", "unix", "tcp", later={"udp": "links over UDP", "quic": "links over QUIC"}),
        "transport of links between processes: the fastest that works, a unix socket or TCP, or TCP",
    ),
    "link_directory": Field(Text(), "the folder for the unix sockets of a lab's processes; none without it"),
    "operating_mode": Field(
        Choice("normal", "max"), "whether TCP is carried as packets, or spliced at every node (`max`)"
    ),
    "max_server_port": Field(_PORT, "the port of the SOCKS5 listener of a node in max mode"),
    "socks5_username": Field(Text(), "what SOCKS5 clients must give; nothing if empty"),
    "socks5_password": Field(Text(), "the password of that user"),
    "ttl_mode": Field(
        Choice("uniform", "pipe"), "whether relays take from the TTL (`uniform`) or leave it (`pipe`)"
    ),
    "user_space_client_port": Field(_PORT, "source port where a caller names none"),
    "user_space_server_port": Field(_PORT, "destination port where a caller names none"),
    "local_address": Field(Address(), "our address on the emulated network"),
    "net_mask": Field(Address(), "mask of the emulated network"),
    "base_addr": Field(Address(), "node n has this address plus n"),
    "ipv6": Field(Text(), "the IPv6 network, in which node n has the first address plus n; none without it"),
    "prefixes": Field(
        ListOf(Text(_PREFIX, "a network and its node, as `192.168.50.0/24 via 3`"), "prefix"),
        "networks behind nodes, each with the node that packets to it are forwarded to",
    ),
    "uplink": Field(
        Choice("none", "here", "elsewhere"),
        "where packets to the outside go: nowhere, to this node's kernel, or to the nearest uplink",
    ),
    "restart_on_disconnect": Field(Boolean(), "whether to reconnect when the controller is lost"),
    "lossless_runtime_config": Field(
        Table(
            "lossless_runtime_config",
            with_defaults(
                {
                    "ready_grace_ms": Field(_MILLIS, "how long a sender waits for receivers to be ready"),
                    "peer_report_timeout_ms": Field(_MILLIS, "how long a silent receiver is waited for"),
                    "start_timeout_ms": Field(_MILLIS, "how long a receive call waits for its sender"),
                    "window_bytes": Field(Integer(65_536, 2**32), "the most under way to one receiver"),
                },
                LosslessSettings,
            ),
        ),
        "lossless sessions",
    ),
}
NODE_TABLE = Table("the node's file", with_defaults(_KEYS, NodeSettings))


def load_node(path: Path | str) -> NodeSettings:
    """Read a node's file.

    Raises:
        SettingsInvalid: The file is missing or wrong; carries every problem with its place.
    """
    return loads_node(read_file(path), str(path))


def loads_node(text: str, file: str = "node.toml") -> NodeSettings:
    """Read the text of a node's file; `file` is what places call it."""
    read: dict[str, Any] = read_table(text, file, NODE_TABLE)
    if "prefixes" in read:
        read["prefixes"] = tuple(read["prefixes"])
    lossless = LosslessSettings(**read.pop("lossless_runtime_config", {}))
    return NodeSettings(**read, lossless=lossless, path=file)
