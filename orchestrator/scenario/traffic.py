"""The traffic of a scenario: its keys, and what an entry means in a topology."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator import units
from orchestrator.errors import Place, quoted
from orchestrator.fields import Choice, Field, Integer, Text, Unit
from orchestrator.source import Problems, Value, read_text
from orchestrator.topology import SelectorInvalid, Topology
from orchestrator.topology.kinds import Placed, SelectorText
from orchestrator.topology.selector import select
from orchestrator.traffic import (
    KINDS,
    MOST_FLOWS,
    PUBLISHED,
    TRANSPORTS,
    Sizes,
    SizesInvalid,
    TooManyFlows,
    TrafficEntry,
    fixed,
    flows_of,
    from_table,
)

__all__ = ["TRAFFIC", "TrafficDraft", "read_traffic", "resolve_traffic"]

FIRST_PORT = 20_000
"""Entries listen from here on, below the ports that kernels give to connections (32768 to 60999)."""

MOST_ENTRIES = 100
MOST_PAIRS = 10_000

_DURATION = r"^\s*[0-9][0-9_.]*\s*(us|ms|s|min|h)\s*$"


def _duration(help: str, default: str | None = None, least: int = 0) -> Field:
    kind = Unit(
        units.parse_duration,
        "a duration such as `10 s`",
        pattern=_DURATION,
        least=units.Duration(least),
        most=units.Duration(86_400_000_000),
    )
    return Field(kind, help, default=default)


TRAFFIC = Placed(
    "traffic",
    {
        "name": Field(Text(most=60), "what its rows are called; kind and nodes unless given"),
        "kind": Field(Choice(*KINDS), "; ".join(f"`{k}`: {v}" for k, v in KINDS.items()), required=True),
        "from": Field(
            SelectorText(), "the nodes that send; of `request-response`, the clients", required=True
        ),
        "to": Field(
            SelectorText(), "the nodes that receive; of `request-response`, the servers", required=True
        ),
        "transport": Field(
            Choice(*TRANSPORTS),
            "what carries it: sockets of `tcp` or, for kinds with a pace, `udp`; "
            "or `user`, user-space flows of the dataplane",
            default="tcp",
        ),
        "rate": Field(
            Unit(
                units.parse_rate,
                "a rate such as `10 Mbit`",
                pattern=r"^\s*[0-9][0-9_.]*\s*([KMGT]?bit)(/s|ps)?\s*$",
                examples=("10 Mbit",),
                least=units.Rate(1_000),
            ),
            "bits of payload per second that each pair of nodes offers",
        ),
        "load": Field(
            Unit(
                units.parse_fraction,
                "a share such as `60 %`",
                pattern=r"^\s*[0-9][0-9_.]*\s*%?\s*$",
                examples=("60 %",),
                least=0.001,
            ),
            "`rate` as a share of the rate of the slowest link between the nodes of the entry",
        ),
        "bytes": Field(
            Unit(
                units.parse_size,
                "a size such as `64 KB`",
                pattern=r"^\s*[0-9][0-9_.]*\s*([KMGT]i?B|B)?\s*$",
                examples=("64 KB",),
                least=units.Size(1),
            ),
            "the size of every flow",
        ),
        "sizes": Field(
            Text(),
            "sizes drawn from a distribution instead: "
            f"{quoted(PUBLISHED)}, or a CSV file beside this one with the columns size and cdf",
        ),
        "requests": Field(Integer(1, MOST_FLOWS), "how often, for kinds without a rate", default=1),
        "duration": _duration("how long it sends, for kinds with a rate", "10 s", 1_000),
        "start": _duration("when it begins", "0 s"),
        "on": _duration("the mean length of a period with traffic, of `on-off`", "1 s", 1_000),
        "off": _duration("the mean length of a period without, of `on-off`", "1 s", 1_000),
        "packet": Field(Integer(64, 8_900), "payload of a datagram in bytes", default=1200),
        "port": Field(
            Integer(1, 65_535), f"the port that is listened on; {FIRST_PORT} and on in the order of the file"
        ),
    },
    hints={"size": "did you mean `bytes` or `sizes`?", "src": "write `from`", "dst": "write `to`"},
)

_PACED = frozenset({"rate", "load", "duration"})
_ROUNDS = frozenset({"requests", "bytes", "sizes"})
_OF_KIND = {
    "cbr": _PACED | {"packet"},
    "poisson": _PACED | {"bytes", "sizes"},
    "on-off": _PACED | {"packet", "on", "off"},
    "incast": _ROUNDS,
    "all-to-all": _ROUNDS,
    "request-response": _ROUNDS,
}
_OF_ALL = frozenset({"name", "kind", "from", "to", "transport", "start", "port"})


@dataclass(frozen=True, slots=True)
class TrafficDraft:
    """An entry of `traffic:`, before its nodes are known; `read` has its keys with their defaults."""

    name: str
    read: Mapping[str, Any]
    sizes: Sizes | None
    port: int
    value: Value


def read_traffic(
    entries: Iterable[Mapping[str, Any]], folder: Path, problems: Problems
) -> tuple[TrafficDraft, ...]:
    """Return the entries, with the tables of sizes that they name."""
    drafts: list[TrafficDraft] = []
    for number, read in enumerate(entries):
        value: Value = read["@"]
        if not {"kind", "from", "to"} <= read.keys():
            continue  # noted already
        noted = len(problems)
        _check_keys(read, value, problems)
        sizes = _sizes(read, folder, value, problems)
        if len(problems) > noted:
            continue
        name = _unused(read.get("name") or _default_name(read), [draft.name for draft in drafts])
        port = read.get("port", FIRST_PORT + number)
        drafts.append(TrafficDraft(name, TRAFFIC.fill(read), sizes, port, value))
    if len(drafts) > MOST_ENTRIES:
        place = drafts[MOST_ENTRIES].value.place
        problems.add(f"there are more than {MOST_ENTRIES} entries of `traffic`", "traffic-size", place)
    return tuple(drafts)


def resolve_traffic(
    drafts: Iterable[TrafficDraft], topology: Topology, timeout_s: float, seed: int, problems: Problems
) -> tuple[TrafficEntry, ...]:
    """Return the traffic of a run in a topology."""
    found = [entry for draft in drafts if (entry := _resolved(draft, topology, timeout_s, problems))]
    _check_ports(found, problems)
    total = 0
    for entry in found:
        try:
            total += len(flows_of(entry, seed))
        except TooManyFlows:
            total += MOST_FLOWS + 1
        if total > MOST_FLOWS:
            problems.add(
                f"the traffic has more than {MOST_FLOWS} flows by the entry `{entry.name}`",
                "traffic-size",
                None,
                expected=f"at most {MOST_FLOWS} flows in a run",
                hint="a shorter `duration`, a lower `rate` or larger flows make fewer",
            )
            break
    return tuple(found)


def _check_keys(read: Mapping[str, Any], value: Value, problems: Problems) -> None:
    kind = read["kind"]
    allowed = _OF_KIND[kind]
    for key in value.mapping or ():
        if key not in allowed | _OF_ALL and key in TRAFFIC.fields:
            problems.add(
                f"`{key}` has no meaning in traffic of the kind `{kind}`",
                "traffic-key",
                value.key_place(key),
                found=key,
                expected=quoted(sorted(allowed)),
            )
    for one, other in (("rate", "load"), ("bytes", "sizes")):
        there = [key for key in (one, other) if value.get(key) is not None]
        if one in allowed and len(there) != 1:
            problems.add(
                f"traffic of the kind `{kind}` has `{one}` or `{other}`, one of both",
                "traffic-key",
                value.place,
                found=quoted(there) or None,
                expected=f"`{one}` or `{other}`",
            )
    if read.get("transport") == "udp" and kind not in ("cbr", "on-off"):
        problems.add(
            f"traffic of the kind `{kind}` is carried by `tcp`: it has no pace of its own",
            "traffic-transport",
            value.place_of("transport"),
            found="udp",
            expected="`tcp`, or the kind `cbr` or `on-off`",
        )


def _sizes(read: Mapping[str, Any], folder: Path, value: Value, problems: Problems) -> Sizes | None:
    if "bytes" in read:
        return fixed(read["bytes"].bytes)
    name = read.get("sizes")
    if name is None:
        return None
    if name in PUBLISHED:
        return PUBLISHED[name]
    place = value.place_of("sizes")
    if not name.endswith(".csv"):
        problems.add(
            f"there is no distribution `{name}`",
            "traffic-sizes",
            place,
            found=name,
            expected=f"{quoted(PUBLISHED)}, or a file whose name ends in .csv",
        )
        return None
    text = read_text(folder / name, str(folder / name), problems)
    if text is None:
        return None
    try:
        return from_table(text)
    except SizesInvalid as error:
        at = Place(str(folder / name), error.line) if error.line else Place(str(folder / name))
        problems.add(f"the table is no CDF: {error}", "traffic-sizes", at, expected=error.expected or None)
        return None


def _resolved(
    draft: TrafficDraft, topology: Topology, timeout_s: float, problems: Problems
) -> TrafficEntry | None:
    noted = len(problems)
    read, kind = draft.read, draft.read["kind"]
    sources = _nodes(read["from"], topology, problems)
    targets = _nodes(read["to"], topology, problems)
    pairs = tuple((src, dst) for src in sources for dst in targets if src != dst)
    if kind == "request-response":
        pairs = tuple((server, client) for client, server in pairs)  # what is measured flows to the client
    _check_pairs(draft, pairs, len(problems) > noted, problems)
    rate = _rate(draft, pairs, topology, problems) if len(problems) == noted else 0.0
    paced = "duration" in _OF_KIND[kind]
    duration = _seconds(read["duration"]) if paced else 0.0
    start = _seconds(read["start"])
    if start + duration >= timeout_s:
        problems.add(
            f"the traffic `{draft.name}` ends after {start + duration:g} s, and the run is ended at "
            f"{timeout_s:g} s",
            "traffic-time",
            draft.value.place,
            found=f"{start + duration:g} s",
            expected=f"less than `timeout`, {timeout_s:g} s",
        )
    if len(problems) > noted:
        return None
    entry = TrafficEntry(
        name=draft.name,
        kind=kind,
        pairs=pairs,
        transport=read["transport"],
        port=draft.port,
        start_s=start,
        duration_s=duration,
        rate_bps=rate,
        sizes=draft.sizes,
        packet=read["packet"],
    )
    if kind == "on-off":
        return replace(entry, on_s=_seconds(read["on"]), off_s=_seconds(read["off"]))
    return entry if paced else replace(entry, requests=read["requests"])


def _seconds(value: Any) -> float:
    """Seconds of a duration that was read, or of a default as it is written."""
    return float((units.parse_duration(value) if isinstance(value, str) else value).seconds)


def _check_pairs(
    draft: TrafficDraft, pairs: Sequence[tuple[int, int]], noted: bool, problems: Problems
) -> None:
    reason = ""
    if not pairs and not noted:
        reason = "has no pair of two nodes"
    elif len(pairs) > MOST_PAIRS:
        reason = f"has {len(pairs)} pairs of nodes, more than {MOST_PAIRS}"
    if reason:
        problems.add(
            f"the traffic `{draft.name}` {reason}",
            "traffic-nodes",
            draft.value.place,
            expected="`from` and `to` with at least two nodes together",
        )


def _nodes(selector: Value, topology: Topology, problems: Problems) -> tuple[int, ...]:
    """Return the nodes of a selector; `all` leaves out external ones."""
    ours = [number for number, node in topology.nodes.items() if not node.external]
    found: set[int] = set()
    for item in [selector] if selector.sequence is None else selector.sequence:
        try:
            chosen = select(item.text, topology.nodes, of_all=ours)
        except SelectorInvalid as error:
            problems.add(
                f"`{error.found}` {error.reason} in {topology.name}",
                "traffic-nodes",
                item.place,
                found=error.found,
                expected=error.expected,
                hint=error.hint,
            )
            continue
        for number in chosen:
            if number not in ours:
                problems.add(
                    f"node {number} is external, and nm starts no traffic in it",
                    "traffic-nodes",
                    item.place,
                    found=str(number),
                )
        found.update(chosen)
    return tuple(sorted(found))


def _rate(
    draft: TrafficDraft, pairs: Iterable[tuple[int, int]], topology: Topology, problems: Problems
) -> float:
    """Return the bits per second of a pair; 0 for kinds without."""
    if "rate" in draft.read:
        return float(draft.read["rate"].bps)
    if "load" not in draft.read:
        return 0.0
    rates = [rate for pair in pairs for rate in _path_rates(topology, *pair)]
    if not rates:
        problems.add(
            f"the traffic `{draft.name}` has a load, but no link between its nodes has a rate",
            "traffic-load",
            draft.value.place_of("load"),
            expected="a `rate` of a link, or `rate` in place of `load`",
        )
        return 0.0
    return float(draft.read["load"]) * min(rates)


def _path_rates(topology: Topology, src: int, dst: int) -> Iterator[int]:
    """Return the rates of the links on the path: the route of the file, or the shortest by hops."""
    spec = {}
    for link in topology.links:
        spec[link.a, link.b], spec[link.b, link.a] = link.forward, link.backward
    explicit = [route.edges for route in topology.routes if (route.src, route.dst) == (src, dst)]
    for edge in explicit[0] if explicit else _shortest(topology, src, dst):
        rate = spec[edge].rate_bps or spec[edge].trace_rate_bps if edge in spec else None
        if rate:
            yield rate


def _shortest(topology: Topology, src: int, dst: int) -> list[tuple[int, int]]:
    near: dict[int, list[int]] = {}
    for link in topology.links:
        near.setdefault(link.a, []).append(link.b)
        near.setdefault(link.b, []).append(link.a)
    before = {src: src}
    queue = deque([src])
    while queue and dst not in before:
        node = queue.popleft()
        for other in sorted(near.get(node, ())):
            if other not in before:
                before[other] = node
                queue.append(other)
    edges = []
    node = dst
    while node in before and node != src:
        edges.append((before[node], node))
        node = before[node]
    return edges


def _check_ports(entries: Iterable[TrafficEntry], problems: Problems) -> None:
    names: dict[int, str] = {}
    for entry in entries:
        other = names.setdefault(entry.port, entry.name)
        if other != entry.name:
            problems.add(
                f"the traffic `{entry.name}` and `{other}` have the port {entry.port}",
                "traffic-port",
                None,
                found=str(entry.port),
                expected="a port for each entry",
            )


def _default_name(read: Mapping[str, Any]) -> str:
    return f"{read['kind']} {_shown(read['from'])}>{_shown(read['to'])}"[:60]


def _shown(selector: Value) -> str:
    return ",".join(item.text for item in selector.sequence or [selector])


def _unused(name: str, taken: Sequence[str]) -> str:
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name}-{number}"
    return found
