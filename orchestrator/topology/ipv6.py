"""The IPv6 addresses of a lab's nodes: a unique local prefix (RFC 4193) and the number of the node.

A lab's prefix is `fd`, then 40 bits: RFC 4193 wants them to differ between networks that may meet one day.
They are the first bits of the SHA-256 of the topology's name, so that a file gives the same addresses on
every machine and at every start.
"""

from __future__ import annotations

import hashlib
import ipaddress
from typing import Any

from orchestrator.fields import Kind
from orchestrator.source import Problems, Value

__all__ = ["LEAST_MTU", "Prefix6", "address6", "unique_local_prefix"]

LEAST_MTU = 1_280
"""RFC 8200, section 5: no interface with a smaller MTU has IPv6."""

_LENGTHS = range(8, 97)
"""Of prefixes: 32 bits remain for the number of a node."""


def unique_local_prefix(name: str) -> str:
    """Return the /48 prefix of the topology of that name."""
    digest = hashlib.sha256(f"nm ipv6 {name}".encode()).digest()
    return str(ipaddress.IPv6Network((b"\xfd" + digest[:5] + bytes(10), 48)))


def address6(prefix: str, node: int) -> str:
    """Return a node's address: the first one of the prefix plus the node's number."""
    return str(ipaddress.IPv6Network(prefix)[node])


class Prefix6(Kind):
    """`ipv6:` of a topology: a prefix, `true` for the one that follows from the name, or `false` for none."""

    expected = "an IPv6 network such as `fd12:3456:789a::/48`, `true` or `false`"

    def read(self, value: Value, name: str, problems: Problems) -> str | bool | None:
        """Return the network in its usual form, or the truth value."""
        if isinstance(value.data, bool):
            return value.data
        try:
            if not isinstance(value.data, str) or "/" not in value.data:
                raise ValueError
            network = ipaddress.IPv6Network(value.data, strict=False)
        except ValueError:
            self.wrong(value, name, problems)
            return None
        hint = self._fault(network, ipaddress.IPv6Address(value.data.partition("/")[0]))
        if hint is not None:
            found = value.data
            problems.add(
                f"{name} is `{found}`, but nodes cannot have addresses there",
                "ipv6",
                value.place,
                found=found,
                expected=self.expected,
                hint=hint,
            )
            return None
        return str(network)

    @staticmethod
    def _fault(network: ipaddress.IPv6Network, address: ipaddress.IPv6Address) -> str | None:
        """Return what to write instead; None for a network that can be used."""
        if address != network.network_address:
            return f"write `{network}`"
        if network.prefixlen not in _LENGTHS:
            return f"take a prefix of {_LENGTHS[0]} to {_LENGTHS[-1]} bits"
        if network.is_multicast or network.is_link_local or network.is_reserved or network.is_loopback:
            return "take a unique local prefix such as `fd12:3456:789a::/48` (RFC 4193)"
        return None

    def schema(self) -> dict[str, Any]:
        """Return the kind as JSON Schema."""
        return {"anyOf": [{"type": "boolean"}, {"type": "string", "pattern": "^[0-9a-fA-F:.]+/[0-9]+$"}]}
