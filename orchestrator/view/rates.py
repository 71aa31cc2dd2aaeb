"""Compute load, loss and queue of links from two samples of the counters of nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.impairment import LinkSpec
from orchestrator.protocol.messages import LinkSample, NodeSample

__all__ = ["Rates", "direction"]


def direction(a: int, b: int) -> str:
    """Return the key of one direction of a link."""
    return f"{a}>{b}"


class Rates:
    """Keeps the last sample of each node, and compares the next one with it.

    Attributes:
        nodes: The last samples, by node.
    """

    def __init__(self) -> None:
        self.nodes: dict[int, NodeSample] = {}

    def update(
        self, samples: Mapping[int, NodeSample], specs: Mapping[tuple[int, int], LinkSpec]
    ) -> dict[str, dict[str, Any]]:
        """Take new samples; return what each direction of a link did since the last ones.

        Directions in which nothing moved and nothing waits are left out.

        Args:
            samples: By node.
            specs: What is requested of each direction.
        """
        found: dict[str, dict[str, Any]] = {}
        for node, now in samples.items():
            before = self.nodes.get(node)
            same = before is not None and before.process == now.process and now.time_ms > before.time_ms
            old = {link.remote_node_id: link for link in before.links} if before and same else {}
            seconds = (now.time_ms - before.time_ms) / 1000 if before and same else 0.0
            for link in now.links:
                spec = specs.get((node, link.remote_node_id))
                if spec is not None and (measured := _measured(link, old, seconds, same, spec)):
                    found[direction(node, link.remote_node_id)] = measured
        self.nodes = dict(samples)
        return found


def _measured(
    now: LinkSample, old: Mapping[int, LinkSample], seconds: float, same: bool, spec: LinkSpec
) -> dict[str, Any] | None:
    """Return what one direction did in that time; None if nothing moved or waits."""
    before = old.get(now.remote_node_id, LinkSample(now.remote_node_id, 0, 0))
    if now.packets < before.packets or not same:  # counters that began anew, or were never seen
        before, seconds = now, 0.0
    packets, size = now.packets - before.packets, now.bytes - before.bytes
    drops = {
        cause: count - before.drops.get(cause, 0)
        for cause, count in now.drops.items()
        if count > before.drops.get(cause, 0)
    }
    lost = sum(drops.values())
    if not (packets or lost or now.queued_packets):
        return None
    bps = size * 8 / seconds if seconds else 0.0
    requested, limit = spec.trace_rate_bps or spec.rate_bps, spec.queue_limit_bytes
    return {
        "bps": round(bps),
        "packets": packets,
        "drops": drops,
        "loss": round(lost / (lost + packets), 6) if lost + packets else None,
        "load": round(bps / requested, 4) if requested else None,
        "queued": now.queued_bytes,
        "queue": round(now.queued_bytes / limit, 4) if limit else None,
        "delay_ms": round((now.delay_sum_us - before.delay_sum_us) / packets / 1000, 3) if packets else None,
    }
