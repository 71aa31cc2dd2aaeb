"""Kinds of values that only topology files have: node references, selectors, networks, generators.

What they hand on keeps its place, because names can only be looked up once all nodes are known.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from orchestrator.errors import nearest_hint, quoted
from orchestrator.fields import Kind, Table
from orchestrator.source import Problems, Value
from orchestrator.topology.generators import GENERATORS, HINTS, GeneratorType

__all__ = ["GeneratorKind", "NodeRef", "OrEmpty", "Placed", "SelectorText", "Subnet", "Sysctls"]


class Placed(Table):
    """A table whose reading keeps its value under the key `@`, for later checks that need places."""

    def read(self, value: Value, name: str, problems: Problems) -> dict[str, Any] | None:
        """Return what `Table.read` gives, and the value itself."""
        read = super().read(value, name, problems)
        return None if read is None else {**read, "@": value}


class OrEmpty(Kind):
    """A table that may be left empty, as in `2:` on a line of its own."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self.expected = table.expected

    def read(self, value: Value, name: str, problems: Problems) -> Any | None:
        """Return the table's reading, or an empty one."""
        if value.data is None:
            value = Value({}, value.place)
        return self._table.read(value, name, problems)

    def schema(self) -> dict[str, Any]:
        """Return the table's schema, `null` allowed."""
        return {"anyOf": [self._table.schema(), {"type": "null"}]}


class NodeRef(Kind):
    """A node's number or name; handed on with its place, to be looked up when all nodes are known."""

    expected = "a node's number or name"

    def read(self, value: Value, name: str, problems: Problems) -> Value | None:
        """Return the value itself if it could be a node at all."""
        if isinstance(value.data, (int, str)) and not isinstance(value.data, bool) and value.data != "":
            return value
        self.wrong(value, name, problems)
        return None

    def schema(self) -> dict[str, Any]:
        """Return the kind as JSON Schema."""
        return {"type": ["integer", "string"], "minimum": 1}


class SelectorText(Kind):
    """A selector, or a list of them; handed on as the value."""

    expected = "a node selector such as `1,3-4`, `w*` or `tier=core`"

    def read(self, value: Value, name: str, problems: Problems) -> Value | None:
        """Return the value itself if its parts are numbers or text."""
        items = [value] if value.sequence is None else value.sequence
        for item in items:
            if isinstance(item.data, bool) or not isinstance(item.data, (int, str)):
                self.wrong(item, name, problems)
                return None
        if not items:
            self.wrong(value, name, problems)
            return None
        return value

    def schema(self) -> dict[str, Any]:
        """Return the kind as JSON Schema."""
        one = {"type": ["integer", "string"]}
        return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}


class Subnet(Kind):
    """An IPv4 network with room for nodes."""

    expected = "an IPv4 network such as `10.0.0.0/16`"

    def read(self, value: Value, name: str, problems: Problems) -> str | None:
        """Return the network in its usual form."""
        try:
            if not isinstance(value.data, str) or "/" not in value.data:
                raise ValueError
            network = ipaddress.IPv4Network(value.data, strict=False)
        except ValueError:
            self.wrong(value, name, problems)
            return None
        if str(network) != value.data:
            problems.add(
                f"{name} is `{value.data}`, but that is an address inside `{network}`",
                "subnet",
                value.place,
                found=value.data,
                expected=self.expected,
                hint=f"write `{network}`",
            )
            return None
        if network.is_multicast or network.is_loopback or network.is_link_local or network.prefixlen < 8:
            problems.add(
                f"{name} is `{network}`, but nodes cannot have addresses there",
                "subnet",
                value.place,
                found=value.data,
                expected=self.expected,
                hint="take a private network such as `10.0.0.0/16`",
            )
            return None
        return str(network)

    def schema(self) -> dict[str, Any]:
        """Return the kind as JSON Schema."""
        return {"type": "string", "pattern": r"^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+/[0-9]+$"}


class GeneratorKind(Kind):
    """`topology:`, a type and the parameters that belong to it."""

    expected = "a mapping with a `type`"

    def read(self, value: Value, name: str, problems: Problems) -> dict[str, Any] | None:
        """Return `type` and its parameters, checked one by one and together."""
        if value.mapping is None:
            hint = f"write `topology: {{type: {value.text}, …}}`" if value.text in GENERATORS else None
            self.wrong(value, name, problems, hint)
            return None
        word = value.get("type")
        if word is None:
            problems.add(
                "topology needs the key `type`",
                "missing-key",
                value.place,
                expected=f"one of {quoted(GENERATORS)}",
                hint="for links written by hand use `n_nodes` and `links` without `topology`",
            )
            return None
        kind = self._type(word, problems)
        if kind is None:
            return None
        noted = len(problems)
        rest = {key: below for key, below in value.mapping.items() if key != "type"}
        table = kind.table()
        read = table.read(Value(rest, value.place, keys=value.keys), f"topology `{kind.name}`", problems)
        if read is None or len(problems) > noted:
            return None
        params = table.fill(read)
        wrong = kind.check(params)
        if wrong is not None:
            key, message, hint = wrong
            problems.add(message, "generator", value.place_of(key), found=str(params[key]), hint=hint)
            return None
        return {"type": kind.name, "params": params, "@": value}

    def schema(self) -> dict[str, Any]:
        """Return one alternative per generator."""
        return {"oneOf": [_generator_schema(kind) for kind in GENERATORS.values()]}

    def _type(self, word: Value, problems: Problems) -> GeneratorType | None:
        if isinstance(word.data, str) and word.data in GENERATORS:
            return GENERATORS[word.data]
        problems.add(
            f"type is {word.describe()}, but no generator is called that",
            "generator",
            word.place,
            found=word.text,
            expected=f"one of {quoted(GENERATORS)}",
            hint=HINTS.get(word.text)
            or nearest_hint(word.text, GENERATORS, otherwise=f"types are {quoted(GENERATORS)}"),
        )
        return None


def _generator_schema(kind: GeneratorType) -> dict[str, Any]:
    schema = kind.table().schema()
    schema["properties"] = {"type": {"const": kind.name, "description": kind.summary}, **schema["properties"]}
    schema["required"] = ["type", *schema.get("required", [])]
    return schema


class Sysctls(Kind):
    """Kernel settings that every network namespace has of its own, by name."""

    expected = "a mapping of settings such as `net.ipv4.tcp_congestion_control: bbr`"
    _one = "a setting that each network namespace has of its own, `net.…`"
    _value = "a number or a line of text"

    def read(self, value: Value, name: str, problems: Problems) -> dict[str, str] | None:
        """Return names with dots and values as text."""
        if value.mapping is None:
            self.wrong(value, name, problems)
            return None
        read: dict[str, str] = {}
        for key, below in value.mapping.items():
            setting = key.replace("/", ".")
            reason = _not_per_namespace(setting)
            if reason is not None:
                problems.add(
                    f"{name} has `{setting}`, which {reason}",
                    "sysctl",
                    value.key_place(key),
                    found=setting,
                    expected=self._one,
                    hint="a setting of the whole machine is set with `sysctl -w` outside the lab"
                    if reason is _OF_MACHINE
                    else None,
                )
            elif isinstance(below.data, (int, str)) and _SYSCTL_VALUE.fullmatch(str(below.data)):
                read[setting] = str(int(below.data) if isinstance(below.data, bool) else below.data)
            else:
                problems.add(
                    f"{setting} is {below.describe()}, not {self._value}",
                    "form",
                    below.place,
                    found=below.text,
                    expected=self._value,
                )
        return read

    def schema(self) -> dict[str, Any]:
        """Return the kind as JSON Schema."""
        return {
            "type": "object",
            "patternProperties": {_SYSCTL_SCHEMA: {"type": ["string", "integer", "boolean"]}},
            "additionalProperties": False,
        }


_SYSCTL = re.compile(r"net(?:\.[a-z0-9_-]+){2,}")
_SYSCTL_SCHEMA = "^net([./][a-z0-9_-]+){2,}$"
_SYSCTL_VALUE = re.compile(r"[!-~](?:[ -~\t]*[!-~])?")
_INTERFACES = re.compile(r"net\.(?:ipv4|ipv6|mpls)\.(?:conf|neigh)\.([^.]+)\..+")

# Below `net.` and yet one for the whole machine (net/core/sysctl_net_core.c, net/ipv4/sysctl_net_ipv4.c);
# no other network namespace shows them.
_GLOBAL = re.compile(
    r"net\.core\.(?!somaxconn$|txrehash$|xfrm_|optmem_max$).+"
    r"|net\.ipv4\.(?:tcp_mem|udp_mem|inet_peer_.+|tcp_max_orphans|ipfrag_secret_interval|cipso_.+)"
    r"|net\.ipv4\.tcp_(?:available_congestion_control|allowed_congestion_control|low_latency)"
    r"|net\.ipv4\.route\.(?!flush$|min_pmtu$|mtu_expires$|min_adv_mss$).+"
    r"|net\.netfilter\.nf_conntrack_(?:max|buckets|expect_max)"
)
_OF_MACHINE = "is one setting of the whole machine"


def _not_per_namespace(setting: str) -> str | None:
    """Say why no node can have a setting of its own; None if it can."""
    if not setting.startswith("net.") or _GLOBAL.fullmatch(setting):
        return _OF_MACHINE
    if not _SYSCTL.fullmatch(setting):
        return "cannot be the name of a kernel setting"
    interface = _INTERFACES.fullmatch(setting)
    if interface and interface[1] not in ("all", "default", "lo"):
        return (
            f"belongs to the interface `{interface[1]}`; settings are made before there is any: use `default`"
        )
    return None
