"""The keys of a link: how each is read, and which fields of `LinkSpec` it states.

Which part of a key is which field stands in `orchestrator.impairment.FIELDS`; here stand the kinds of values.
What is read becomes a `Layer`: by key, the fields that it states. Layers of defaults, groups and links are
laid over each other key by key.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator import units
from orchestrator.fields import (
    NONE,
    Boolean,
    Choice,
    Field,
    Integer,
    MapOf,
    Number,
    OrNone,
    ShortOrTable,
    Table,
    Text,
    Unit,
)
from orchestrator.impairment import CLASS_KEYS, FIELDS, QUEUES, SCHEDULERS, LinkSpec
from orchestrator.topology.jitter_table import Distribution
from orchestrator.topology.profiles import PROFILES
from orchestrator.topology.trace_keys import FileName, trace_use

__all__ = [
    "DURATION_FORM",
    "FRACTION_FORM",
    "LINK_FIELDS",
    "LINK_HINTS",
    "LINK_KEYS",
    "LINK_LATER",
    "LIVE_FIELDS",
    "PARTS",
    "RATE_FORM",
    "SIZE_FORM",
    "Layer",
    "layer",
    "spec_of",
]

Layer = Mapping[str, Mapping[str, Any]]
"""What is stated: by key of a link, the fields of `LinkSpec`; none of them where the key is `none`."""

DURATION_FORM = r"^\s*[0-9][0-9_.]*\s*(us|µs|ms|s|min|h)\s*$|^0$"
SIZE_FORM = r"^\s*[0-9][0-9_.]*\s*(([kKmMgGtT]i?)?B|bytes?)?\s*$"
RATE_FORM = r"^\s*[0-9][0-9_.]*\s*([kKmMgGtT]i?)?(bits?(/s)?|bps|b/s|B/s|Bps)\s*$"
_LIMIT_FORM = r"^\s*[0-9][0-9_.]*\s*(packets?|([kKmMgGtT]i?)?B|bytes?|us|µs|ms|s)\s*$"
FRACTION_FORM = r"^\s*[0-9][0-9.eE-]*\s*%?\s*$"


def _unit(parse: Callable[[str], Any], what: str, pattern: str, *examples: str) -> Unit:
    return Unit(parse, f"{what} such as `{examples[0]}`", pattern=pattern, examples=examples)


def _duration(*examples: str) -> Unit:
    return _unit(units.parse_duration, "a duration", DURATION_FORM, *examples)


def _size(*examples: str) -> Unit:
    return _unit(units.parse_size, "a size", SIZE_FORM, *examples)


def _share(*examples: str) -> Unit:
    return _unit(units.parse_fraction, "a probability", FRACTION_FORM, *examples)


_JITTER = Table(
    "jitter",
    {
        "std": Field(_duration("5 ms"), "standard deviation of the delay", required=True),
        "distribution": Field(
            Distribution(),
            "how the delay is distributed around `delay`: a word, a file with one measured delay per line "
            "(relative to this file), or a list of such delays",
            default="normal",
        ),
        "reorder": Field(
            Boolean(), "whether packets with a shorter delay overtake earlier ones", default=False
        ),
    },
)
_LOSS = Table(
    "loss",
    {
        "mean": Field(_share("1 %", "0.05"), "the share of packets that is lost", required=True),
        "burst": Field(
            Number(1, 1e9, "a number of packets"),
            "mean number of packets that are lost one after another; independent losses without it",
        ),
    },
)
_REORDER = Table(
    "reorder",
    {
        "share": Field(_share("0.5 %"), "the share of packets that later ones overtake", required=True),
        "gap": Field(Integer(1, 2**16, "a number of packets"), "how many packets overtake it", default=1),
    },
)
_QUEUE = Table(
    "queue",
    {
        "type": Field(Choice(*QUEUES), "when packets are dropped or marked", required=True),
        "min": Field(_size("30 KB"), "RED: average queue length from which packets are dropped"),
        "max": Field(_size("90 KB"), "RED: average queue length from which all packets are dropped"),
        "p": Field(_share("10 %"), "RED: probability of a drop at an average just below `max`"),
        "target": Field(_duration("5 ms"), "CoDel: acceptable waiting time; 5 ms unless stated"),
        "interval": Field(
            _duration("100 ms"),
            "CoDel: how long the waiting time exceeds it before packets are dropped; 100 ms unless stated",
        ),
    },
)
_SCHEDULER = Table(
    "scheduler",
    {
        "type": Field(Choice(*SCHEDULERS), "in which order packets are transmitted", required=True),
        "by": Field(Choice(*CLASS_KEYS), "the property of a packet that is its class", default="flow"),
        "weights": Field(
            MapOf(
                r"[0-9]{1,10}",
                "a class's number",
                Integer(1, 2**32 - 1, "a whole number"),
                "the weight of *",
            ),
            "weight (`drr`) or priority (`priority`) of classes; others have 1",
        ),
    },
)

_TRACE = Table(
    "trace",
    {
        "file": Field(
            FileName(),
            "a packet delivery file of Mahimahi, or CSV of `time_s` and any of `rate`, `delay`, `loss`; "
            "relative to this file",
            required=True,
        ),
        "loop": Field(
            Boolean(), "whether it repeats after its last time; yes for Mahimahi, no for CSV unless stated"
        ),
        "scale": Field(Number(0.001, 1_000, "a factor from 0.001 to 1000"), "factor of its rates", default=1),
        "shift": Field(_duration("3 s"), "the time of the trace at which the link starts", default="0 s"),
        "column": Field(Text(), "the column of a CSV file that holds the rate, if it is not `rate`"),
    },
)

LINK_FIELDS: Mapping[str, Field] = {
    "profile": Field(
        OrNone(Choice(*PROFILES)),
        "a named set of all other keys (`nm link profiles`); what is stated beside it overrides",
    ),
    "rate": Field(
        OrNone(_unit(units.parse_rate, "a rate", RATE_FORM, "100 Mbit", "1 Gbit")),
        "serialisation rate, headers included; no limit without it",
    ),
    "burst": Field(
        OrNone(_size("15 KB")),
        "bytes that may leave back to back after the link was idle; one packet without it",
    ),
    "delay": Field(OrNone(_duration("20 ms", "500 us")), "one-way delay"),
    "jitter": Field(
        ShortOrTable(_duration("20 ms", "500 us"), "std", _JITTER),
        "standard deviation of the delay; `{std: 5 ms, distribution: uniform, reorder: true}` in full",
    ),
    "loss": Field(
        ShortOrTable(_share("0.1 %", "0.05"), "mean", _LOSS),
        "probability that a packet is lost, drawn for each MTU segment; `{mean: 1 %, burst: 5}` for bursts",
    ),
    "duplicate": Field(OrNone(_share("0.1 %")), "probability that a packet is delivered twice"),
    "reorder": Field(
        ShortOrTable(_share("0.5 %"), "share", _REORDER),
        "probability that the next packet overtakes a packet; `{share: 0.5 %, gap: 3}` for the next three",
    ),
    "corrupt": Field(
        OrNone(_share("0.01 %")), "probability that one bit of the payload of a packet is flipped"
    ),
    "limit": Field(
        OrNone(
            Unit(
                units.parse_limit,
                "a queue limit such as `100 packets`, `64 KB` or `20 ms`",
                pattern=_LIMIT_FORM,
                examples=("100 packets", "64 KB", "20 ms"),
            )
        ),
        "queue limit before the serializer, in packets, bytes or time of the rate; without a rate, of the "
        "delay stage",
    ),
    "queue": Field(
        ShortOrTable(Choice(*QUEUES), "type", _QUEUE),
        "when the queue drops or marks packets; `{type: red, min: 30 KB, max: 90 KB, p: 10 %}` in full",
    ),
    "ecn": Field(OrNone(Boolean()), "whether the queue marks ECN-capable packets instead of dropping them"),
    "scheduler": Field(
        ShortOrTable(Choice(*SCHEDULERS), "type", _SCHEDULER),
        "in which order queued packets leave; `{type: drr, by: dst_port, weights: {5201: 1, 5202: 4}}`",
    ),
    "mtu": Field(
        OrNone(Integer(576, 9_216, "a whole number of bytes")),
        "largest packet that the link carries, in bytes; that of its nodes without it",
    ),
    "trace": Field(
        ShortOrTable(FileName(), "file", _TRACE),
        "a recorded trace that sets the rate, or rate, delay and loss; "
        "`{file: x.csv, loop: true, scale: 2, shift: 3 s}` in full",
    ),
    "down": Field(
        Boolean(),
        "down from the start, until `nm link up`; `nm link reset` takes it down again",
        default=False,
    ),
}

LINK_KEYS = tuple(LINK_FIELDS)
"""What a link does to packets; each may also be stated for one direction alone."""

LIVE_FIELDS = {key: field for key, field in LINK_FIELDS.items() if key != "down"}
"""What can be set on a running link; it is taken down and up by commands of their own."""

LINK_LATER: Mapping[str, str] = {
    "correlation": "impairments that remember the packet before",
    "transport": "links over UDP or QUIC",
    "weight": "a cost for routing",
}
LINK_HINTS: Mapping[str, str] = {
    "bandwidth": "did you mean `rate`?",
    "bw": "did you mean `rate`?",
    "latency": "did you mean `delay`?",
    "rtt": "write `delay`, which is one way: half of the round trip",
    "drop": "did you mean `loss`?",
    "distribution": "write `jitter: {std: 5 ms, distribution: uniform}`",
    "gemodel": "write `loss: {mean: 1 %, burst: 5}`",
    "gap": "write `reorder: {share: 0.5 %, gap: 3}`",
    "queue_size": "did you mean `limit`?",
    "bucket_size": "did you mean `burst`?",
    "discipline": "did you mean `queue`?",
    "aqm": "did you mean `queue`?",
    "qdisc": "write `queue` for when packets are dropped, `scheduler` for their order",
    "weights": "write `scheduler: {type: drr, by: dst_port, weights: {5201: 1, 5202: 4}}`",
    "src": "write `endpoints: [A, B]`",
    "from": "write `endpoints: [A, B]`",
}


def _parts() -> Mapping[str, Mapping[str, str]]:
    parts: dict[str, dict[str, str]] = defaultdict(dict)
    for name, rule in FIELDS.items():
        parts[rule.key][rule.part or name] = name
    return parts


PARTS = _parts()
"""By key of a link, the field of each part of its full form; the short form states the first."""


def layer(read: Mapping[str, Any], direction: str) -> Layer:
    """Return what a mapping states for one direction.

    A profile states all keys: what it does not name is none. Keys beside it override it.
    """
    found: dict[str, Mapping[str, Any]] = {}
    profile = read.get("profile")
    if profile is not None:
        found = {key: {} for key in PARTS}
        if profile != NONE:
            found |= _by_key(PROFILES[profile].spec(direction))
    return found | {key: _fields(key, read[key]) for key in PARTS if key in read}


def spec_of(stated: Layer) -> LinkSpec:
    """Return the specification that a layer makes.

    Raises:
        ValueError: The values do not go together.
    """
    return LinkSpec(**{name: value for fields in stated.values() for name, value in fields.items()})


def _by_key(spec: LinkSpec) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for name, rule in FIELDS.items():
        if getattr(spec, name) is not None:
            found[rule.key][name] = getattr(spec, name)
    return found


def _fields(key: str, value: Any) -> dict[str, Any]:
    """Return the fields that the value of a key states."""
    if value == NONE:
        return {}
    if key == "trace":
        return {"trace": trace_use(value)} if "file" in value else {}
    parts = PARTS[key]
    if isinstance(value, units.Limit):
        stated = {"limit_bytes": value.bytes, "limit_packets": value.packets, "limit_us": value.us}
        return {name: number for name, number in stated.items() if number is not None}
    main = next(iter(parts))
    full = value if isinstance(value, dict) else {main: value}
    if main not in full:
        return {}  # noted when it was read; without it the others mean nothing
    found = {parts[part]: _number(below) for part, below in full.items()}
    if isinstance(found.get("jitter_distribution"), tuple):
        found |= {"jitter_distribution": "table", "jitter_table": found["jitter_distribution"]}
    return found


def _number(value: Any) -> Any:
    """Return a value with a unit as the number that fields hold."""
    match value:
        case units.Rate():
            return value.bps
        case units.Duration():
            return value.us
        case units.Size():
            return value.bytes
        case _:
            return value
