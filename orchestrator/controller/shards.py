"""Report stalled packet threads (shards) of host processes as problems of the lab.

A host process reports a stalled thread once for all nodes on it, in the name of the first of them; the
problem stays until the thread continues or that node is gone.
"""

from __future__ import annotations

from typing import Any

__all__ = ["MOVES", "STALLED", "about", "sentence"]

STALLED = "shard.stalled"
MOVES = "shard.moves"


def about(node: int) -> str:
    """Return the key of the problem."""
    return f"shard of node {node}"


def sentence(node: int, detail: Any) -> str:
    """Return the problem in words; unknown or malformed details are left out."""
    facts = detail if isinstance(detail, dict) else {}
    nodes = facts.get("nodes")
    carried = sorted({n for n in nodes if isinstance(n, int)}) if isinstance(nodes, list | tuple) else []
    for_ms = facts.get("for_ms")
    since = f" for {for_ms / 1000:g} s" if isinstance(for_ms, int) else ""
    whose = f"{len(carried)} nodes from {carried[0]} to {carried[-1]}" if len(carried) > 1 else f"node {node}"
    return f"the packet thread of {whose} is stalled{since}; the other threads continue"
