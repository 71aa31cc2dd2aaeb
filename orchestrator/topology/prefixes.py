"""Networks behind nodes (`prefixes`): read them, and check that no address belongs to two parts of a lab."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.errors import Place
from orchestrator.fields import Kind
from orchestrator.source import Problems, Value

__all__ = ["UPLINK_NETWORK", "USER_SPACE_BASE", "PrefixKind", "build_prefixes"]

USER_SPACE_BASE = "192.168.0.0"
"""The address of node n for the Python API and user-space flows is this plus n."""

UPLINK_NETWORK = "100.64.255.0/30"
"""The network between a native node with an uplink and the outside: from the shared address space (RFC 6598),
which no host outside of a provider's network has."""

_UNUSABLE = (
    (ipaddress.IPv4Network("0.0.0.0/8"), "the addresses of this network (RFC 1122)"),
    (ipaddress.IPv4Network("127.0.0.0/8"), "loopback addresses"),
    (ipaddress.IPv4Network("169.254.0.0/16"), "link-local addresses"),
    (ipaddress.IPv4Network("224.0.0.0/4"), "multicast addresses"),
    (ipaddress.IPv4Network("240.0.0.0/4"), "reserved addresses"),
)
_HINT = "take a network that nothing else in the lab uses, such as `192.168.50.0/24`"

_Networks = list[tuple[ipaddress.IPv4Network, str, Place]]


class PrefixKind(Kind):
    """A network behind a node; handed on as the value, to be compared with those of other nodes."""

    expected = "an IPv4 network such as `192.168.50.0/24`"

    def read(self, value: Value, name: str, problems: Problems) -> Value | None:
        """Return the value itself if it is a network whose addresses hosts can have."""
        try:
            if not isinstance(value.data, str) or "/" not in value.data:
                raise ValueError
            network = ipaddress.IPv4Network(value.data, strict=False)
        except ValueError:
            self.wrong(value, name, problems, _ipv6_hint(value))
            return None
        if str(network) != value.data:
            self._refuse(value, f"but that is an address inside `{network}`", f"write `{network}`", problems)
            return None
        other = next((what for range_, what in _UNUSABLE if range_.overlaps(network)), None)
        if other is not None:
            self._refuse(value, f"which contains {other}", _HINT, problems)
            return None
        return value

    def schema(self) -> dict[str, Any]:
        """Return the kind as JSON Schema."""
        return {"type": "string", "pattern": r"^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+/[0-9]+$"}

    def _refuse(self, value: Value, reason: str, hint: str, problems: Problems) -> None:
        problems.add(
            f"the prefix is `{value.data}`, {reason}",
            "prefix",
            value.place,
            found=str(value.data),
            expected=self.expected,
            hint=hint,
        )


def build_prefixes(
    stated: Mapping[str, Mapping[str, Any]], subnet: str, nodes: int, problems: Problems
) -> dict[int, tuple[str, ...]]:
    """Return the networks behind each node that has some.

    Args:
        stated: The nodes as read from the file, by number.
        subnet: The lab's own network.
        nodes: How many nodes there are.
        problems: Takes what overlaps: two prefixes, or a prefix and addresses of the lab.
    """
    found: dict[int, tuple[str, ...]] = {}
    taken = _of_the_lab(subnet, nodes)
    if any(node.get("uplink") for node in stated.values()):
        taken.append((ipaddress.IPv4Network(UPLINK_NETWORK), f"`{UPLINK_NETWORK}`, the network of uplinks"))
    known: _Networks = []
    for number, node in sorted(stated.items(), key=lambda item: int(item[0])):
        values: list[Value] = node.get("prefixes", [])
        for value in values:
            network = ipaddress.IPv4Network(str(value.data))
            reason = next((what for other, what in taken if other.overlaps(network)), None)
            reason = reason or next(_overlaps(network, known), None)
            if reason is not None:
                problems.add(
                    f"the prefix `{network}` of node {number} overlaps {reason}",
                    "prefix-overlap",
                    value.place,
                    found=str(network),
                    expected="a network whose addresses belong to nothing else",
                    hint=_HINT,
                )
            else:
                known.append((network, f"`{network}` of node {number}", value.place))
        if values:
            found[int(number)] = tuple(str(value.data) for value in values)
    return found


def _of_the_lab(subnet: str, nodes: int) -> list[tuple[ipaddress.IPv4Network, str]]:
    first = ipaddress.IPv4Address(USER_SPACE_BASE)
    user_space = ipaddress.summarize_address_range(first, first + nodes)
    return [
        (ipaddress.IPv4Network(subnet), f"the lab's own network, `{subnet}`"),
        *(
            (each, f"`{first}` to `{first + nodes}`, the user-space addresses of the nodes")
            for each in user_space
        ),
    ]


def _overlaps(network: ipaddress.IPv4Network, known: _Networks) -> Iterator[str]:
    for other, what, place in known:
        if other.overlaps(network):
            yield f"{what} in line {place.line}"


def _ipv6_hint(value: Value) -> str | None:
    try:
        ipaddress.IPv6Network(str(value.data), strict=False)
    except ValueError:
        return None
    return "only IPv4 networks are routed to nodes"
