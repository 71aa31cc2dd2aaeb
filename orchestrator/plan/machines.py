"""Host names of nodes, and the kernel settings of their network namespaces.

A TCP stream carries its window once a round trip, and the window is bounded by the buffers of its ends.
What the kernel allows by default is enough for 240 Mbit/s at a round trip of 100 ms. So the bound is raised
for all nodes of a lab to what its fastest link takes over its longest path. The memory is used only by a
stream that needs it.
"""

from __future__ import annotations

import re
from itertools import pairwise

from orchestrator.plan.ttl import distances
from orchestrator.topology import Link, Node, Topology

__all__ = ["buffer_sysctls", "hostname"]

MOST_BYTES = 64 * 1024 * 1024
"""The most that one direction of one stream may keep."""

LEAST_BYTES = 6 * 1024 * 1024
"""Linux allows 6 MiB to receive and 4 MiB to send by default; up to this it is left alone."""

SPARE = 4
"""Half of a receive buffer is the window (tcp_adv_win_scale), and while a stream starts, a sender keeps two
windows. Queues in front of slow links make the round trip longer than the links alone, too."""

PLAIN_BPS = 10_000_000_000
"""What counts as the rate of a link that states none."""

_EXACT_NODES, _SOME_NODES = 256, 32
"""Up to so many nodes the paths from every node are looked at; beyond, those from so many, spread evenly. The
longest path is at most twice as long as the longest from any one node, which is within `SPARE`."""


def hostname(node: Node) -> str:
    """Return the node's name as a host name (RFC 1123): letters, digits and `-` inside, at most 63."""
    name = re.sub(r"[^A-Za-z0-9-]", "-", node.name)[:63].strip("-")
    return name or f"node-{node.id}"


def buffer_sysctls(topology: Topology) -> dict[str, str]:
    """Return the settings that let TCP fill the topology's links; nothing where the kernel's own do."""
    longest = _longest_us(topology)
    if not longest:
        return {}
    rate = max(
        spec.rate_bps or PLAIN_BPS for link in topology.links for spec in (link.forward, link.backward)
    )
    wanted = min(MOST_BYTES, SPARE * rate * longest // 8_000_000)
    if wanted <= LEAST_BYTES:
        return {}
    # The first two, least and beginning, are the kernel's own.
    return {"net.ipv4.tcp_rmem": f"4096 131072 {wanted}", "net.ipv4.tcp_wmem": f"4096 16384 {wanted}"}


def _longest_us(topology: Topology) -> int:
    """The longest round trip over a path of fewest links, or over an explicit path, by the links' delays."""
    delays = {(link.a, link.b): _delay(link) for link in topology.links}
    if not any(delays.values()):
        return 0
    delays |= {(b, a): delay for (a, b), delay in delays.items()}
    paths = (route.path for route in topology.routes if route.path is not None)
    longest = max((sum(delays.get(hop, 0) for hop in pairwise(p)) for p in paths), default=0)
    neighbours: dict[int, list[int]] = {node: [] for node in topology.nodes}
    for a, b in delays:
        neighbours[a].append(b)
    starts = list(topology.nodes)
    if len(starts) > _EXACT_NODES:
        starts = starts[:: -(-len(starts) // _SOME_NODES)]
    for start in starts:
        longest = max(longest, *distances(neighbours, start, delays).values())
    return longest


def _delay(link: Link) -> int:
    """A link's round trip."""
    return (link.forward.delay_us or 0) + (link.backward.delay_us or 0)
