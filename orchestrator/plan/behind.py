"""Plan the networks behind nodes: who forwards to them, and with which kernel settings."""

from __future__ import annotations

from orchestrator.topology import Node, Topology

__all__ = ["forwarding", "prefix_routes"]


def prefix_routes(topology: Topology) -> tuple[str, ...]:
    """Return the networks behind the nodes of a topology, each as `NETWORK via NODE`."""
    return tuple(f"{prefix} via {node.id}" for node in topology.nodes.values() for prefix in node.prefixes)


def forwarding(node: Node) -> dict[str, str]:
    """Return the kernel settings with which a node forwards packets to the networks behind it."""
    return {"net.ipv4.ip_forward": "1"} if node.prefixes else {}
