"""The length of a link for routing: a hop, its delay, or the time that it takes to serialise a bit."""

from __future__ import annotations

from orchestrator.impairment.spec import LinkSpec

__all__ = ["METRICS", "link_length"]

METRICS = ("hops", "delay", "inverse_rate")
"""What shortest paths may be measured in."""

REFERENCE_BPS = 10**12
"""The rate at which a link has the length 2 by `inverse_rate`. OSPF divides a reference rate likewise; this
one keeps rates up to 100 Gbit/s apart."""


def link_length(spec: LinkSpec, metric: str) -> int:
    """Return the length of one direction of a link, a whole number from 1.

    By `delay` these are microseconds, by `inverse_rate` 10^12 divided by the bits per second; a link without
    a rate takes no time. One is added, so that of equal paths the one with fewer links is shorter.
    """
    if metric == "delay":
        return 1 + (spec.delay_us or 0)
    if metric == "inverse_rate":
        return 1 + (round(REFERENCE_BPS / spec.rate_bps) if spec.rate_bps else 0)
    return 1
