"""Report the counters of a node's links, one row per neighbour."""

from __future__ import annotations

from typing import Any


def reader(ctx: Any) -> None:
    """Report bytes and packets of both directions."""
    for link in ctx.dataplane.statistics()["links"]:
        ctx.report(
            remote=link["remote"],
            tx_bytes=link["tx_bytes"],
            tx_packets=link["tx_packets"],
            rx_bytes=link["rx_bytes"],
            rx_packets=link["rx_packets"],
        )
