"""The keys of the topology file.

Strict reading, the JSON Schema in `topologies/schema/` and the reference are all made from these tables. What
values mean together (existing names, complete routes) is checked in the other modules of this package.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator import units
from orchestrator.fields import (
    Boolean,
    Choice,
    Field,
    Integer,
    ListOf,
    MapOf,
    RouteWeight,
    Table,
    Text,
    Unit,
)
from orchestrator.impairment import METRICS
from orchestrator.topology.flow_keys import FLOW
from orchestrator.topology.ipv6 import Prefix6
from orchestrator.topology.kinds import (
    GeneratorKind,
    NodeRef,
    OrEmpty,
    Placed,
    SelectorText,
    Subnet,
    Sysctls,
)
from orchestrator.topology.lab_test_keys import LabTestKind
from orchestrator.topology.link_keys import DURATION_FORM, LINK_FIELDS, LINK_HINTS, LINK_LATER, SIZE_FORM
from orchestrator.topology.prefixes import PrefixKind
from orchestrator.topology.service_keys import SERVICE, SERVICE_NAME
from orchestrator.topology.uplinks import UplinkKind

__all__ = ["LAB_NAME", "NODE_NAME", "ROOT", "ROUTE"]

# Lab names become container, network and folder names; Compose wants lower case, and interfaces want them
# short.
LAB_NAME = r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?"
# Node names become host names (RFC 1123, 63 characters), and may not be mistaken for a number or a range.
NODE_NAME = r"[A-Za-z](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_LABEL_KEY = r"[A-Za-z](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_LABEL_VALUE = r"[A-Za-z0-9](?:[A-Za-z0-9_.:/+@-]{0,62})"

_WAIT = Unit(
    units.parse_duration,
    "a duration such as `10 s`",
    pattern=DURATION_FORM,
    examples=("10 s",),
    least=units.Duration(1_000),
    most=units.Duration(86_400_000_000),
)
_WINDOW = Unit(
    units.parse_size,
    "a size such as `8 MiB`",
    pattern=SIZE_FORM,
    examples=("8 MiB",),
    least=units.Size(65_536),
    most=units.Size(2**32),
)

_LOSSLESS = Table(
    "lossless",
    {
        "ready_grace": Field(_WAIT, "how long a sender waits for its receivers to be ready", default="10 s"),
        "report_timeout": Field(_WAIT, "how long a silent receiver is waited for", default="15 s"),
        "start_timeout": Field(_WAIT, "how long a receive call waits for its sender", default="600 s"),
        "window": Field(_WINDOW, "the most that a sender has under way", default="8 MiB"),
    },
    later={"fec": "forward error correction", "fec_enabled": "forward error correction"},
)

_INTERVAL = Unit(
    units.parse_duration,
    "a duration such as `1 s`",
    pattern=DURATION_FORM,
    examples=("1 s",),
    least=units.Duration(100_000),
    most=units.Duration(3_600_000_000),
)
_KEEP = Unit(
    units.parse_duration,
    "a duration such as `1 h`",
    pattern=DURATION_FORM,
    examples=("1 h",),
    least=units.Duration(1_000_000),
    most=units.Duration(31_536_000_000_000),
)
_METRICS = Table(
    "metrics",
    {
        "enabled": Field(Boolean(), "whether nodes report their counters", default=True),
        "interval": Field(_INTERVAL, "how often", default="1 s"),
        "keep": Field(_KEEP, "how long Postgres keeps the reports, and flows that ended", default="1 h"),
    },
)
_SOCKS5 = Table(
    "socks5",
    {
        "port": Field(Integer(1, 65_535, "a port"), "where it listens in the node", default=8_081),
        "username": Field(
            Text(r"[!-~]{1,255}", "1 to 255 printable characters"),
            "what clients must give, with `password`; other nodes may enter as well then",
        ),
        "password": Field(Text(r"[!-~]{1,255}", "1 to 255 printable characters"), "see `username`"),
    },
)

_LABELS = MapOf(
    _LABEL_KEY,
    "a label's name (letters, digits, `_`, `.`, `-`)",
    Text(_LABEL_VALUE, "a label of letters, digits and `_.:/+@-`", numbers=True),
    "label *",
)

_NODE_BASE: Mapping[str, Field] = {
    "labels": Field(_LABELS, "labels of your own, for selectors"),
    # RFC 791: every host takes 576 bytes. Above, the largest common size is that of a jumbo frame.
    "mtu": Field(
        Integer(576, 9_216, "a whole number of bytes"),
        "largest packet of the TUN interface, in bytes",
        default=1_500,
    ),
    "sysctls": Field(
        Sysctls(), "kernel settings of the node's network namespace, such as `net.ipv4.tcp_rmem`"
    ),
    "offload": Field(
        Choice("auto", "off"), "super-packets on TUN: `auto` where the kernel can, or `off`", default="auto"
    ),
    "num_tun_queues": Field(Integer(1, 256), "queues of the TUN interface", default=1),
    "operating_mode": Field(
        Choice("normal", "max"),
        "how TCP is carried: as packets, or `max`, spliced at every node of its route",
        default="normal",
    ),
    "socks5": Field(_SOCKS5, "the SOCKS5 listener of a node with `operating_mode: max`"),
    "channel_capacity": Field(Integer(1, 16_777_216), "messages kept for a Python receiver", default=1_000),
    "channel_backpressure": Field(
        Boolean(), "whether a full Python receiver grows, up to 32 MB, instead of losing", default=False
    ),
    "lossless": Field(_LOSSLESS, "how lossless sessions wait"),
}
_NODE_LATER: Mapping[str, str] = {
    "cpu": "a limit on processor time",
    "memory": "a limit on memory",
    "scheduler": "queue disciplines such as weighted round robin",
}
_NODE_HINTS: Mapping[str, str] = dict.fromkeys(
    ("image", "command", "exec", "environment", "volumes"), "write it as a service, under `services`"
)
_EXTERNAL = Field(Boolean(), "left to a program of your own: rendered, but not started", default=False)

_DEFAULT_NODE = Table("defaults.node", _NODE_BASE, later=_NODE_LATER, hints=_NODE_HINTS)
_GROUP_NODE = Table("group node", {**_NODE_BASE, "external": _EXTERNAL}, later=_NODE_LATER, hints=_NODE_HINTS)
_NODE = Placed(
    "node",
    {
        "name": Field(
            Text(
                NODE_NAME,
                "a name of letters, digits, `-` and `_` that starts with a letter",
                hint="it becomes a host name",
            ),
            "what the node is called; `node-<id>` works besides",
        ),
        "external": _EXTERNAL,
        "prefixes": Field(
            ListOf(PrefixKind(), "prefix"),
            "networks behind the node (its own bridges, containers or tunnels), which the lab routes to it",
        ),
        "uplink": Field(
            UplinkKind(),
            "a way to the outside, for this node and those that it is the nearest uplink of: `true`, or "
            "natively `{interface: NAME}` or `{namespace: NAME}` of the machine",
            default=False,
        ),
        **_NODE_BASE,
    },
    later=_NODE_LATER,
    hints=_NODE_HINTS,
)

_PLAIN_LINK = Table("link", LINK_FIELDS, later=LINK_LATER, hints=LINK_HINTS)
_DIRECTION = Table("link direction", LINK_FIELDS, later=LINK_LATER, hints=LINK_HINTS)
_LINK = Placed(
    "link",
    {
        "endpoints": Field(ListOf(NodeRef(), "endpoint", least=2, most=2), "the two nodes", required=True),
        **LINK_FIELDS,
        "forward": Field(_DIRECTION, "from the first endpoint to the second"),
        "backward": Field(_DIRECTION, "from the second endpoint to the first"),
    },
    later=LINK_LATER,
    hints=LINK_HINTS,
)
_GROUP = Placed(
    "group",
    {
        "nodes": Field(SelectorText(), "the members: ids, ranges, names, globs, label=value", required=True),
        "node": Field(_GROUP_NODE, "what holds for the members, unless a node says otherwise"),
        "link": Field(_PLAIN_LINK, "what holds for links that touch a member, unless a link says otherwise"),
    },
)
ROUTE = Placed(
    "route",
    {
        "from": Field(NodeRef(), "where the packets come from", required=True),
        "to": Field(NodeRef(), "where they go", required=True),
        "path": Field(ListOf(NodeRef(), "node", least=2), "the nodes in order, both ends included"),
        "edges": Field(
            ListOf(ListOf(NodeRef(), "node", least=2, most=2), "edge", least=1),
            "directed edges without a cycle; several out of one node mean a copy to each",
        ),
        "weight": Field(RouteWeight(), "its share of the flows where the pair has several routes", default=1),
    },
    later={"tree": "routes of groups; use the Python API"},
)

_ROUTING = Placed(
    "routing",
    {
        "protocol": Field(
            Choice("shortest_path", "none"),
            "how routes come about; `none` for explicit routes alone",
            default="shortest_path",
        ),
        "metric": Field(
            Choice(*METRICS),
            "what makes a path short: few links, a small sum of delays, or of the inverse rates, as declared",
            default="hops",
        ),
        "paths": Field(
            Integer(1, 64),
            "so many shortest paths for each pair of nodes, over which its flows are spread evenly",
            default=1,
        ),
        "disjoint": Field(
            Choice("edges"), "the `paths` of a pair share no link; their sum of lengths is the least there is"
        ),
        "function": Field(
            Text(), "a function that is given the topology and returns its routes, as `FILE.py:NAME`"
        ),
    },
    hints={"ecmp": "write `paths: 4`", "k": "write `paths`", "weight": "write `metric`"},
)

ROOT = Placed(
    "the topology",
    {
        "name": Field(
            Text(
                LAB_NAME,
                "a name of small letters, digits and `-`, at most 40",
                hint="containers, networks and folders are named after it",
            ),
            "the lab's name unless `-n` says otherwise",
        ),
        "seed": Field(Integer(hint="for example `seed: 7`"), "drives every draw", default=1),
        "subnet": Field(
            Subnet(), "the lab's TUN network; node n has its first address plus n", default="10.0.0.0/16"
        ),
        "ipv6": Field(
            Prefix6(),
            "the nodes' IPv6 network, likewise; `true` takes a unique local one made from the name,"
            " `false` none",
            default=True,
        ),
        "n_nodes": Field(
            Integer(1, expected="a whole number of nodes"),
            "number of nodes, if no generator says it or there are more",
        ),
        "without": Field(
            ListOf(Integer(1, 2**32 - 1, "a node's number"), "number"),
            "numbers that no node has, such as those of removed nodes; with them go a generator's links",
        ),
        "topology": Field(GeneratorKind(), "a generated shape"),
        "defaults": Field(
            Table(
                "defaults",
                {
                    "node": Field(_DEFAULT_NODE, "what holds for every node"),
                    "link": Field(_PLAIN_LINK, "what holds for every link"),
                },
            ),
            "what holds unless a group, a node or a link says otherwise",
        ),
        "groups": Field(
            MapOf(NODE_NAME, "a group's name", _GROUP, "group *"),
            "nodes that share settings; later groups win",
        ),
        "nodes": Field(
            MapOf(r"[1-9][0-9]*", "a node's number, from 1", OrEmpty(_NODE), "node *"), "single nodes"
        ),
        "links": Field(ListOf(_LINK, "link"), "links added to the generator's, or overriding the same pair"),
        "routing": Field(_ROUTING, "how routes come about; shortest paths by hops unless said otherwise"),
        "routes": Field(ListOf(ROUTE, "route"), "explicit routes"),
        "services": Field(
            MapOf(SERVICE_NAME, "a service's name", SERVICE, "service *"),
            "programs that are started in nodes with the lab; keys as in the Compose specification",
        ),
        "transport": Field(
            Choice("auto", "unix", "tcp", later={"udp": "links over UDP", "quic": "links over QUIC"}),
            "what carries links between processes: `auto` is shared memory where both are on one machine, "
            "`unix` a socket there, and `tcp` is TCP always; each falls back to TCP where it has to",
            default="auto",
        ),
        "tests": Field(
            ListOf(LabTestKind(), "test"), "what has to hold in the lab; `nm test` runs them one by one"
        ),
        "metrics": Field(_METRICS, "the counters of nodes, links and flows that `nm top` shows"),
        "flows": Field(
            ListOf(FLOW, "flow"), "user-space flows, which the dataplane carries; they start with the lab"
        ),
    },
    private=True,
    later={
        "scenario": "a timeline in the topology file; write a scenario folder",
        "events": "a timeline in the topology file; write a scenario folder",
        "scheduler_type": "queue disciplines such as weighted round robin",
    },
    hints={"edges": "did you mean `links`?", "version": "a topology file has no version"},
)
