"""Settings of the controller (`controller.toml`), including the whole topology.

The controller keeps its state in Postgres; this file is what it compares that state with at every start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from orchestrator.errors import Place, SettingsInvalid
from orchestrator.fields import (
    Boolean,
    Choice,
    Field,
    Integer,
    Kind,
    ListOf,
    MapOf,
    Number,
    RouteWeight,
    Table,
    Text,
)
from orchestrator.impairment import (
    FIELDS,
    METRICS,
    MOST_QUANTILES,
    PLAIN,
    FieldKind,
    FieldRule,
    Impossible,
    LinkSpec,
    trace_from_text,
    with_trace,
)
from orchestrator.settings.forms import PORT_MOST, Address
from orchestrator.settings.reading import read_file, read_table, with_defaults
from orchestrator.source import Problems, Value

__all__ = [
    "CONTROLLER_TABLE",
    "ControllerSettings",
    "DatabaseSettings",
    "FlowEntry",
    "LinkEntry",
    "NodeEntry",
    "RouteEntry",
    "load_controller",
    "loads_controller",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSettings:
    """Where Postgres is; a `host` that starts with `/` is the folder of its socket."""

    user: str = "nm"
    password: str = field(default="", repr=False)
    host: str = "127.0.0.1"
    port: int = 5_432
    database: str = "nm"

    def conninfo(self) -> str:
        """Return the connection string for libpq, every value quoted."""
        values = {
            "user": self.user,
            "password": self.password,
            "host": self.host,
            "port": str(self.port),
            "dbname": self.database,
        }
        return " ".join(f"{key}='{_escaped(value)}'" for key, value in values.items() if value)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeEntry:
    """One node as the controller knows it before it has registered."""

    node_id: int
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    external: bool = False
    operating_mode: str = "normal"
    mtu: int = 1_500
    prefixes: tuple[str, ...] = ()
    uplink: bool = False
    public_network_addr: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkEntry:
    """One link; `forward` and `forward_down` are about packets from `a` to `b`."""

    a: int
    b: int
    forward: LinkSpec = PLAIN
    backward: LinkSpec = PLAIN
    forward_down: bool = False
    backward_down: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteEntry:
    """One explicit route as directed edges; `path` is kept where the route is a plain sequence of nodes."""

    src: int
    dst: int
    edges: tuple[tuple[int, int], ...]
    path: tuple[int, ...] | None = None
    weight: float = 1.0
    computed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowEntry:
    """User-space flows between two nodes, `count` of them; `route` is the path of an explicit route."""

    src: int
    dst: int
    size_bytes: int | None = None
    duration_ms: int | None = None
    rate_bps: int | None = None
    weight: int | None = None
    transport: str = "tcp"
    count: int = 1
    route: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerSettings:
    """Everything in the controller's file; see `CONTROLLER_TABLE` for what each key means."""

    lab: str
    node_key: str = field(repr=False)
    operator_token: str = field(repr=False)
    link_secret: str = field(repr=False)
    backend: str = "native"
    seed: int = 0
    host: str = "127.0.0.1"
    port: int = 3_000
    listen: str = ""
    tls_certificate: str = ""
    tls_key: str = ""
    base_addr: str = "10.0.0.0"
    net_mask: str = "255.255.0.0"
    ipv6: str = ""
    multicast_pool_base: str = "239.255.0.0"
    multicast_pool_mask: str = "255.255.0.0"
    user_space_base_addr: str = "192.168.0.0"
    external_base_addr: str = "172.16.8.3"
    max_server_port: int = 8_081
    protocol: str = "tcp"
    scheduler_type: str = "fifo"
    ready_timeout_ms: int = 60_000
    metrics_interval_ms: int = 1_000
    metrics_keep_s: int = 3_600
    db: DatabaseSettings = field(default_factory=DatabaseSettings)
    n_nodes: int = 0
    nodes: tuple[NodeEntry, ...] = ()
    links: tuple[LinkEntry, ...] = ()
    routing: str = "shortest_path"
    metric: str = "hops"
    routes: tuple[RouteEntry, ...] = ()
    flows: tuple[FlowEntry, ...] = ()
    path: str = ""


class _NodePath(Kind):
    """A list of node ids, or of pairs of them."""

    def __init__(self, *, pairs: bool) -> None:
        self._pairs = pairs
        self.expected = "a list of pairs of node ids" if pairs else "a list of node ids"

    def read(self, value: Value, name: str, problems: Problems) -> Any | None:
        plain = value.plain()
        if isinstance(plain, list) and all(self._fits(item) for item in plain):
            return tuple(tuple(item) if self._pairs else item for item in plain)
        self.wrong(value, name, problems)
        return None

    def schema(self) -> dict[str, Any]:
        return {"type": "array"}

    def _fits(self, item: object) -> bool:
        if self._pairs:
            return isinstance(item, list) and len(item) == 2 and all(type(end) is int for end in item)
        return type(item) is int


_ID = Integer(1, 2**32 - 1, "a node id")


def _kind(rule: FieldRule) -> Kind:
    """Return how one field of a link is read; what fields mean together is checked when all are there."""
    match rule.kind:
        case FieldKind.PROBABILITY | FieldKind.NUMBER:
            return Number(rule.least, rule.most)
        case FieldKind.FLAG:
            return Boolean()
        case FieldKind.WORD:
            return Choice(*rule.words)
        case FieldKind.NUMBERS:
            return ListOf(Number(rule.least, rule.most), "number", least=2, most=MOST_QUANTILES)
        case FieldKind.WEIGHTS:
            return MapOf(r"[0-9]{1,10}", "a class's number", Integer(1, int(rule.most)), "weight of *")
        case FieldKind.TEXT:
            return Text()
        case _:
            return Integer(int(rule.least), int(rule.most))


def _help(rule: FieldRule) -> str:
    """Return what a field says, with the unit of its number."""
    with_unit = rule.kind in (FieldKind.RATE, FieldKind.DURATION, FieldKind.SIZE)
    return f"{rule.help}, in {rule.kind.value}" if with_unit else rule.help


_MOST_TEXT = 8 * 2**20
_SPEC = Table(
    "link direction",
    {
        name: Field(_kind(rule), _help(rule))
        for name, rule in FIELDS.items()
        if rule.kind is not FieldKind.DATA
    },
)

_KEYS: dict[str, Field] = {
    "lab": Field(Text(), "the lab's name", required=True),
    "node_key": Field(Text(), "what the tokens of nodes are derived from", required=True),
    "operator_token": Field(Text(), "authenticates an operator's control connection", required=True),
    "link_secret": Field(Text(), "the keys of the links between processes derive from it", required=True),
    "backend": Field(Choice("docker", "native", "swarm"), "what a node is"),
    "seed": Field(Integer(), "the lab's seed"),
    "host": Field(Text(), "the address to listen on"),
    "port": Field(Integer(0, PORT_MOST), "the port to listen on; 0 takes any"),
    "listen": Field(Text(), "a further address to listen on"),
    "tls_certificate": Field(
        Text(), "the file with the certificate for TLS, PEM, beside this one; without it there is no TLS"
    ),
    "tls_key": Field(Text(), "the file with its private key, PEM"),
    "base_addr": Field(Address(), "node n has this address plus n"),
    "net_mask": Field(Address(), "mask of the emulated network"),
    "ipv6": Field(Text(), "the IPv6 network, in which node n has the first address plus n; none without it"),
    "multicast_pool_base": Field(Address(), "first address for groups"),
    "multicast_pool_mask": Field(Address(), "size of the pool for groups"),
    "user_space_base_addr": Field(Address(), "base of the user-space addresses"),
    "external_base_addr": Field(Address(), "base of the external addresses"),
    "max_server_port": Field(Integer(1, PORT_MOST), "port of the nodes' on-demand TCP server"),
    "protocol": Field(Choice("tcp", later={"udp": "links over UDP", "quic": "links over QUIC"})),
    "scheduler_type": Field(Choice("fifo", later={"wrr": "weighted round robin"})),
    "ready_timeout_ms": Field(Integer(1, 86_400_000), "how long nodes may take to become ready"),
    "metrics_interval_ms": Field(Integer(0, 3_600_000), "how often nodes report their counters; 0 for never"),
    "metrics_keep_s": Field(Integer(1, 31_536_000), "how long reports of counters are kept"),
    "db": Field(
        Table(
            "db",
            {
                "user": Field(Text(), "whom to be", default="nm"),
                "password": Field(Text(), "the password, if the server asks for one"),
                "host": Field(Text(), "its address, or the folder of its socket", default="127.0.0.1"),
                "port": Field(Integer(1, PORT_MOST), "its port", default=5_432),
                "database": Field(Text(), "the database's name", default="nm"),
            },
        ),
        "Postgres",
    ),
    "topology": Field(Table("topology", {"n_nodes": Field(Integer(0), required=True)}), "the size"),
    "nodes": Field(
        ListOf(
            Table(
                "node",
                {
                    "node_id": Field(_ID, required=True),
                    "name": Field(Text(), required=True),
                    "labels": Field(MapOf(".+", "a label", Text(), "labels")),
                    "external": Field(Boolean()),
                    "operating_mode": Field(Choice("normal", "max")),
                    "mtu": Field(Integer(576, PORT_MOST)),
                    "prefixes": Field(ListOf(Text(), "prefix"), "the networks behind it"),
                    "uplink": Field(Boolean()),
                    "public_network_addr": Field(Text()),
                },
            ),
            "node",
        ),
    ),
    "traces": Field(
        MapOf(r"[0-9a-f]{64}", "a digest", Text(most=_MOST_TEXT), "the trace *"),
        "the contents of the traces that links play, compressed (zlib) and in base64, by their digests",
    ),
    "links": Field(
        ListOf(
            Table(
                "link",
                {
                    "a": Field(_ID, required=True),
                    "b": Field(_ID, required=True),
                    "forward": Field(_SPEC),
                    "backward": Field(_SPEC),
                    "forward_down": Field(Boolean(), "packets from a to b are dropped from the start"),
                    "backward_down": Field(Boolean(), "packets from b to a are dropped from the start"),
                },
            ),
            "link",
        ),
    ),
    "routing": Field(
        Table(
            "routing",
            {
                "protocol": Field(Choice("shortest_path", "none")),
                "metric": Field(Choice(*METRICS), "what makes a path short"),
            },
        )
    ),
    "routes": Field(
        ListOf(
            Table(
                "route",
                {
                    "src": Field(_ID, required=True),
                    "dst": Field(_ID, required=True),
                    "path": Field(_NodePath(pairs=False)),
                    "edges": Field(_NodePath(pairs=True)),
                    "weight": Field(RouteWeight(), "its share of the flows of its pair"),
                    "computed": Field(Boolean(), "it is one of the `paths` of its pair"),
                },
            ),
            "route",
        ),
    ),
    "flows": Field(
        ListOf(
            Table(
                "flow",
                {
                    "src": Field(_ID, required=True),
                    "dst": Field(_ID, required=True),
                    "size_bytes": Field(Integer(1, 2**63 - 1), "payload to transfer"),
                    "duration_ms": Field(Integer(1, 2**53), "how long the source sends, instead"),
                    "rate_bps": Field(Integer(1, 2**63 - 1), "the most payload that it sends"),
                    "weight": Field(Integer(1, 65_535)),
                    "transport": Field(Choice("tcp", "lossless_unicast")),
                    "count": Field(Integer(1, 10_000), "so many such flows"),
                    "route": Field(_NodePath(pairs=False), "the path of one of the routes"),
                },
            ),
            "flow",
        ),
    ),
}
CONTROLLER_TABLE = Table("the controller's file", with_defaults(_KEYS, ControllerSettings))


def load_controller(path: Path | str) -> ControllerSettings:
    """Read the controller's file.

    Raises:
        SettingsInvalid: The file is missing or wrong; carries every problem with its place.
    """
    return loads_controller(read_file(path), str(path))


def loads_controller(text: str, file: str = "controller.toml") -> ControllerSettings:
    """Read the text of the controller's file; `file` is what places call it."""
    read = read_table(text, file, CONTROLLER_TABLE)
    read["db"] = DatabaseSettings(**read.get("db", {}))
    read["n_nodes"] = read.pop("topology", {}).get("n_nodes", len(read.get("nodes", ())))
    read["nodes"] = tuple(
        NodeEntry(**{**node, "prefixes": tuple(node.get("prefixes", ()))}) for node in read.get("nodes", ())
    )
    read["links"] = _links(read.get("links", ()), read.pop("traces", {}), file)
    routing = read.get("routing", {})
    read["routing"] = routing.get("protocol", "shortest_path")
    read["metric"] = routing.get("metric", "hops")
    read["routes"] = tuple(_route(route) for route in read.get("routes", ()))
    read["flows"] = tuple(FlowEntry(**flow) for flow in read.get("flows", ()))
    return ControllerSettings(**read, path=file)


def _links(read: Sequence[Mapping[str, Any]], texts: Mapping[str, str], file: str) -> tuple[LinkEntry, ...]:
    links: list[LinkEntry] = []
    problems = Problems("settings")
    traces: dict[str, bytes] = {}
    for digest, text in texts.items():
        try:
            traces[digest] = trace_from_text(digest, text)
        except ValueError as error:
            problems.add(str(error), "trace", Place(file))
    for link in read:
        try:
            forward, backward = (
                with_trace(LinkSpec.from_wire(link.get(side)), traces) for side in ("forward", "backward")
            )
            forward.check()
            backward.check()
        except ValueError as error:
            hint = error.hint if isinstance(error, Impossible) else None
            problems.add(f"link {link['a']}–{link['b']}: {error}", "impairment", Place(file), hint=hint)
            continue
        links.append(LinkEntry(**{**link, "forward": forward, "backward": backward}))
    problems.raise_as(SettingsInvalid, file)
    return tuple(links)


def _route(read: Mapping[str, Any]) -> RouteEntry:
    path = read.get("path")
    edges = tuple(pairwise(path)) if path else read.get("edges", ())
    weight = float(read.get("weight", 1.0))
    kind = {"weight": weight, "computed": read.get("computed", False)}
    return RouteEntry(src=read["src"], dst=read["dst"], edges=edges, path=path, **kind)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")
