"""Ways out of a lab (`uplink`): read them, and check which nodes may have one."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from orchestrator.fields import Kind
from orchestrator.source import Problems, Value
from orchestrator.topology.model import Node, Uplink
from orchestrator.topology.prefixes import UPLINK_NETWORK

__all__ = ["UplinkKind", "check_uplink_network", "check_uplinks"]

# A name of an interface (dev_valid_name in net/core/dev.c), and of a namespace below /run/netns. Both become
# arguments of programs, so that neither may begin with `-`.
_NAMES = {
    "interface": (
        re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}"),
        "an interface of the machine such as `eth1`",
    ),
    "namespace": (
        re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}"),
        "a network namespace as `ip netns` lists it, such as `outside`",
    ),
}


class UplinkKind(Kind):
    """`true`, or what of the machine is the outside: one of its interfaces, or another network namespace."""

    expected = "true, `{interface: NAME}` or `{namespace: NAME}`"

    def read(self, value: Value, name: str, problems: Problems) -> Uplink | bool | None:
        """Return the uplink; false where the file says that there is none."""
        if isinstance(value.data, bool):
            return Uplink() if value.data else False
        mapping = value.mapping
        if mapping is None or len(mapping) != 1 or not mapping.keys() <= _NAMES.keys():
            self.wrong(value, name, problems)
            return None
        [(key, word)] = mapping.items()
        pattern, expected = _NAMES[key]
        if not isinstance(word.data, str) or not pattern.fullmatch(word.data):
            problems.add(
                f"{key} is {word.describe()}, but {expected} is expected",
                "form",
                word.place,
                found=word.text,
                expected=expected,
            )
            return None
        return Uplink(**{key: word.data})

    def schema(self) -> dict[str, Any]:
        """Return the kind as JSON Schema."""
        one = [
            {
                "type": "object",
                "properties": {
                    key: {"type": "string", "pattern": f"^{pattern.pattern}$", "description": meaning}
                },
                "required": [key],
                "additionalProperties": False,
            }
            for key, (pattern, meaning) in _NAMES.items()
        ]
        return {"anyOf": [{"type": "boolean"}, *one]}


def check_uplinks(
    stated: Mapping[str, Mapping[str, Any]], nodes: Mapping[int, Node], problems: Problems
) -> None:
    """Note nodes that cannot have an uplink."""
    for number, node in stated.items():
        found = nodes.get(int(number))
        if found is not None and found.uplink is not None and found.external:
            value: Value = node["@"]
            problems.add(
                f"node {number} is external and has an uplink",
                "uplink-external",
                value.place_of("uplink"),
                expected="a node that is started with the lab",
                hint="give the uplink to another node; the network of your own program is yours to connect",
            )


def check_uplink_network(root: Mapping[str, Any], nodes: Mapping[int, Node], problems: Problems) -> None:
    """Note a network of the lab that has the addresses between its uplinks and the outside."""
    subnet = root.get("subnet")
    if subnet is None or not any(node.uplink for node in nodes.values()):
        return
    if ipaddress.IPv4Network(subnet).overlaps(ipaddress.IPv4Network(UPLINK_NETWORK)):
        value: Value = root["@"]
        problems.add(
            f"the lab's network `{subnet}` overlaps `{UPLINK_NETWORK}`, the network of uplinks",
            "uplink-network",
            value.place_of("subnet"),
            found=str(subnet),
            expected="a network whose addresses belong to nothing else",
            hint="take another one, such as the default `10.0.0.0/16`",
        )
