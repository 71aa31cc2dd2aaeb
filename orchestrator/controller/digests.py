"""Compute content digests that serve as versions, so that equal versions mean equal content.

Versions depend on content alone and are not counted, so that a restarted controller computes the same
versions without stored state.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from orchestrator.impairment import LinkSpec
from orchestrator.protocol.messages import Group, GroupRoute, Pin, Route

__all__ = [
    "directory_version",
    "link_base",
    "link_version",
    "routes_version",
    "table_digest",
    "trees_version",
]


def table_digest(table: bytes) -> int:
    """Return the digest of a next-hop table."""
    return _digest(table)


def routes_version(table: int, routes: Iterable[Route], pins: Iterable[Pin] = ()) -> int:
    """Return the version of a node's routes: its table's digest, its explicit routes and its pins."""
    rows = [f"{r.route_id},{r.src_node_id},{r.dst_node_id},{r.next_hops},{r.weight}" for r in routes]
    rows += [
        f"{p.pin_id},{p.src_node_id},{p.dst_node_id},{p.route_id},{p.protocol},{p.src_port},{p.dst_port}"
        for p in pins
    ]
    return _digest(f"{table};{';'.join(rows)}".encode())


def link_base(remote: int, addr: str, process: int, same_process: bool, dial: bool) -> int:
    """Return the digest of what makes a link, without what it does to packets."""
    return _digest(f"{remote};{addr};{process};{same_process};{dial}".encode())


def link_version(base: int, spec: LinkSpec, *, down: bool = False) -> int:
    """Return the version of one end of a link."""
    return _digest(f"{base};{sorted(spec.to_wire().items())}{';down' if down else ''}".encode())


def directory_version(groups: Iterable[Group]) -> int:
    """Return the version of the group directory; that of an empty one is a version, too."""
    rows = sorted((g.group_id, g.group_ip, g.src_node_id, g.label) for g in groups)
    return _digest(repr(rows).encode())


def trees_version(routes: Iterable[GroupRoute]) -> int:
    """Return the version of a node's routes for one group."""
    rows = [(r.tree_id, r.next_hops, r.local, r.weight) for r in routes]
    return _digest(repr(rows).encode())


def _digest(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")
