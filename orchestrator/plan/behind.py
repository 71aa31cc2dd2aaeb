"""Plan the networks behind nodes and the ways out: who forwards to them, and with which kernel settings."""

from __future__ import annotations

from orchestrator.topology import Node, Topology

__all__ = ["forwarding", "prefix_routes", "uplink_of"]


def prefix_routes(topology: Topology) -> tuple[str, ...]:
    """Return the networks behind the nodes of a topology, each as `NETWORK via NODE`."""
    return tuple(f"{prefix} via {node.id}" for node in topology.nodes.values() for prefix in node.prefixes)


def forwarding(node: Node) -> dict[str, str]:
    """Return the kernel settings with which a node forwards packets to the networks behind it and outside."""
    return {"net.ipv4.ip_forward": "1"} if node.prefixes or node.uplink else {}


def uplink_of(topology: Topology, node: Node) -> str:
    """Return where a node's packets to the outside go: `none`, `here` or `elsewhere`.

    An external node's interface is in a network that is not the lab's, perhaps the machine's own: all packets
    to the outside from there, those of the uplink itself included, would go through the lab.
    """
    if node.external:
        return "none"
    if node.uplink:
        return "here"
    return "elsewhere" if any(each.uplink for each in topology.nodes.values()) else "none"
