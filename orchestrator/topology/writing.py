"""Write topologies as YAML: fully resolved, or as a short generated file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from orchestrator.errors import Place, UsageError, nearest_hint, quoted
from orchestrator.source import Problems, Value
from orchestrator.topology.generators import GENERATORS, HINTS, GeneratorType
from orchestrator.topology.language import LAB_NAME
from orchestrator.topology.link_words import written
from orchestrator.topology.loader import loads
from orchestrator.topology.model import Access, Flow, Link, Node, Route, Topology
from orchestrator.topology.nodes import SOCKS5_FIELDS
from orchestrator.topology.service_model import Service
from orchestrator.units import Duration, Rate, Size

__all__ = [
    "dump",
    "flow",
    "flow_words",
    "generate",
    "node_words",
    "route_words",
    "service_words",
    "word",
]

# Words that plain YAML would read as something else than text.
_NOT_TEXT = re.compile(r"(?i:null|true|false|yes|no|on|off|~)|[-+.0-9].*")
# What YAML takes in quotes only as an escape (YAML 1.2, 5.1), beyond those that JSON escapes.
_NOT_PRINTABLE = re.compile(
    r"[^\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_PLAIN_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")


def dump(topology: Topology) -> str:
    """Return the resolved topology; see `orchestrator.topology.dump`."""
    lines = [
        f"name: {word(topology.name)}",
        f"seed: {topology.seed}",
        f"subnet: {topology.subnet}",
        f"ipv6: {topology.ipv6 or 'false'}",
        f"n_nodes: {max(topology.nodes)}",
    ]
    if without := [number for number in range(1, max(topology.nodes)) if number not in topology.nodes]:
        lines.append(f"without: {flow(without)}")
    lines += ["nodes:", *(f"  {node.id}: {flow(_node(node))}" for node in topology.nodes.values())]
    if topology.links:
        lines += ["links:", *(f"  - {flow(_link(link))}" for link in topology.links)]
    lines.append(f"routing: {flow(_routing(topology))}")
    if topology.transport != "auto":
        lines.append(f"transport: {topology.transport}")
    if metrics := _metrics(topology):
        lines.append(f"metrics: {flow(metrics)}")
    if topology.controller != Access():
        lines.append(f"controller: {flow(_access(topology.controller))}")
    if topology.routes:
        lines += ["routes:", *(f"  - {flow(_route(route))}" for route in topology.routes)]
    if topology.flows:
        lines += ["flows:", *(f"  - {flow(_flow(each))}" for each in topology.flows)]
    if topology.services:
        lines += [
            "services:",
            *(f"  {word(each.name)}: {flow(_service(each))}" for each in topology.services),
        ]
    if topology.tests:
        lines += ["tests:", *(f"  - {flow(dict(test.written))}" for test in topology.tests)]
    return "\n".join(lines) + "\n"


def _access(access: Access) -> dict[str, Any]:
    shown: dict[str, Any] = {"listen": access.listen} if access.listen else {}
    if access.tls is not None:
        shown["tls"] = access.tls
    return {**shown, "names": list(access.names)} if access.names else shown


def _metrics(topology: Topology) -> dict[str, Any]:
    """Return the key `metrics`; empty for what holds without it."""
    found: dict[str, Any] = {}
    if not topology.metrics_interval_ms:
        found["enabled"] = False
    elif topology.metrics_interval_ms != 1_000:
        found["interval"] = f"{topology.metrics_interval_ms} ms"
    if topology.metrics_keep_s != 3_600:
        found["keep"] = f"{topology.metrics_keep_s} s"
    return found


def generate(type: str, *, name: str, explicit: bool, seed: int, params: Mapping[str, Any]) -> str:
    """Return a file for a shape; see `orchestrator.topology.generate`."""
    kind = GENERATORS.get(type)
    if kind is None:
        raise _no_generator(type)
    name = name or type.replace("_", "-")
    if not re.fullmatch(LAB_NAME, name):
        raise UsageError(
            f"`{name}` cannot be a lab's name",
            id="topology.name",
            found=name,
            expected="small letters, digits and `-`, at most 40",
        )
    checked = _checked(kind, params)
    shown = ", ".join(f"{key}: {value}" for key, value in {"type": type, **checked}.items())
    text = f"# {kind.summary[:1].upper()}{kind.summary[1:]}.\nname: {name}\n"
    if seed != 1 or kind.seeded:
        text += f"seed: {seed}\n"
    text += f"topology: {{{shown}}}\n"
    topology = loads(text, "nm generate")
    return dump(topology) if explicit else text


def _no_generator(type: str) -> UsageError:
    return UsageError(
        f"no generator is called `{type}`",
        id="topology.generator",
        found=type,
        expected=f"one of {quoted(GENERATORS)}",
        hint=HINTS.get(type) or nearest_hint(type, GENERATORS, otherwise=f"types are {quoted(GENERATORS)}"),
    )


def _checked(kind: GeneratorType, params: Mapping[str, Any]) -> dict[str, Any]:
    """Check parameters from a command line as strictly as those from a file."""
    place = Place(f"nm generate {kind.name}")
    problems = Problems("topology")
    table = kind.table()
    values = {key: Value(value, place, str(value)) for key, value in params.items()}
    read = table.read(Value(values, place, keys=dict.fromkeys(values, place)), kind.name, problems)
    filled = table.fill(read or {})
    wrong = kind.check(filled) if not problems else None
    if wrong is not None:
        problems.add(wrong[1], "generator", place, found=str(filled[wrong[0]]), hint=wrong[2])
    for problem in problems:
        raise UsageError(
            problem.message,
            id=problem.id,
            place=place,
            found=problem.found,
            expected=problem.expected,
            hint=problem.hint,
        )
    return filled


_NODE_DEFAULTS = Node(id=1, name="")
_OWN_FORM = frozenset({"id", "name", "labels", "prefixes", "sysctls", "uplink"})
"""What is not written as it is in the model."""


def _node(node: Node) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": node.name} if node.name != f"node-{node.id}" else {}
    if node.labels:
        shown["labels"] = dict(node.labels)
    if node.sysctls:
        shown["sysctls"] = dict(node.sysctls)
    if node.prefixes:
        shown["prefixes"] = list(node.prefixes)
    if node.uplink:
        words = {key: word for key, word in asdict(node.uplink).items() if word is not None}
        shown["uplink"] = words or True
    lossless: dict[str, Any] = {}
    socks5: dict[str, Any] = {}
    words = {attribute: word for word, attribute in SOCKS5_FIELDS.items()}
    for key in (field.name for field in fields(Node)):
        value = getattr(node, key)
        if key in _OWN_FORM or value == getattr(_NODE_DEFAULTS, key):
            continue
        if key == "ready_grace_ms":
            lossless["ready_grace"] = str(Duration(value * 1000))
        elif key == "peer_report_timeout_ms":
            lossless["report_timeout"] = str(Duration(value * 1000))
        elif key == "start_timeout_ms":
            lossless["start_timeout"] = str(Duration(value * 1000))
        elif key == "window_bytes":
            lossless["window"] = str(Size(value))
        elif key in words:
            socks5[words[key]] = value
        else:
            shown[key] = value
    extra = {"socks5": socks5, "lossless": lossless}
    return {**shown, **{key: value for key, value in extra.items() if value}}


def _link(link: Link) -> dict[str, Any]:
    shown: dict[str, Any] = {"endpoints": [link.a, link.b]}
    sides = {
        "forward": written(link.forward) | _down(link.forward_down),
        "backward": written(link.backward) | _down(link.backward_down),
    }
    if sides["forward"] == sides["backward"]:
        return {**shown, **sides["forward"]}
    return {**shown, **{side: spec for side, spec in sides.items() if spec}}


def _service(service: Service) -> dict[str, Any]:
    shown: dict[str, Any] = {"nodes": list(service.nodes)}
    for key in service.stated():
        value = getattr(service, key)
        shown[key] = list(value) if isinstance(value, tuple) else value
    if service.entrypoint == ():
        shown["entrypoint"] = []
    if service.build is not None:
        stated = {key: getattr(service.build, key) for key in ("context", "dockerfile", "target", "args")}
        shown["build"] = {key: value for key, value in stated.items() if value}
    if service.volumes:
        shown["volumes"] = [str(volume) for volume in service.volumes]
    if service.depends_on:
        shown["depends_on"] = {name: {"condition": it} for name, it in service.depends_on.items()}
    if service.restart == "no":
        del shown["restart"]
    if service.ready is not None:
        ready, value = service.ready, service.ready.value
        shown["ready"] = {
            ready.kind: list(value) if ready.kind == "command" else value[0],
            "timeout": str(Duration(ready.timeout_ms * 1000)),
            "interval": str(Duration(ready.interval_ms * 1000)),
        }
        if ready.kind == "tcp":
            shown["ready"]["tcp"] = int(value[0])
    return shown


def _down(down: bool) -> dict[str, Any]:
    return {"down": True} if down else {}


def _routing(topology: Topology) -> dict[str, Any]:
    shown: dict[str, Any] = {"protocol": topology.routing}
    if topology.metric != "hops":
        shown["metric"] = topology.metric
    if topology.paths != 1:
        shown["paths"] = topology.paths
    if topology.disjoint:
        shown["disjoint"] = "edges"
    if topology.function:
        shown["returned_by"] = topology.function
    return shown


def _route(route: Route) -> dict[str, Any]:
    shown: dict[str, Any] = {"from": route.src, "to": route.dst}
    if route.path is not None:
        shown["path"] = list(route.path)
    else:
        shown["edges"] = [list(edge) for edge in route.edges]
    if route.weight != 1:
        shown["weight"] = route.weight
    return shown


def _flow(each: Flow) -> dict[str, Any]:
    shown: dict[str, Any] = {"from": each.src, "to": each.dst}
    if each.size_bytes is not None:
        shown["bytes"] = str(Size(each.size_bytes))
    if each.duration_ms is not None:
        shown["duration"] = str(Duration(each.duration_ms * 1000))
    if each.rate_bps is not None:
        shown["rate"] = str(Rate(each.rate_bps))
    if each.weight is not None:
        shown["weight"] = each.weight
    if each.transport != "tcp":
        shown["transport"] = each.transport
    if each.count != 1:
        shown["count"] = each.count
    if each.route is not None:
        shown["route"] = list(each.route)
    return shown


def flow(value: Any) -> str:
    """Return a value as one line of YAML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{word(key)}: {flow(below)}" for key, below in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value if re.fullmatch(r"[0-9.]+ [A-Za-z%]+", value) else word(value)
    return repr(value)


def word(text: str) -> str:
    """Return text as YAML, in quotes if it would be read as something else."""
    if _PLAIN_WORD.fullmatch(text) and not _NOT_TEXT.fullmatch(text):
        return text
    quoted_text = json.dumps(text, ensure_ascii=False)
    return _NOT_PRINTABLE.sub(lambda match: f"\\U{ord(match[0]):08x}", quoted_text)


node_words, route_words, flow_words, service_words = _node, _route, _flow, _service
"""What the file states of one node, route, flow or service, by key."""
