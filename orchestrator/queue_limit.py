"""The limit of a link's queue in bytes, with the default that applies where none is stated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["effective_limit_bytes"]

DEFAULT_US = 50_000
"""Default queue limit in microseconds of the rate; two delays if that is longer."""

DEFAULT_LEAST = 48_000
"""Lower bound of the default in bytes: 32 full packets, so that a slow link holds one window of TCP."""

_BITS_US = 8_000_000
"""Bits per second times microseconds that are one byte."""

_MOST = 2**64 - 1
"""What the dataplane counts with."""


def effective_limit_bytes(spec: Mapping[str, Any]) -> int | None:
    """Return the limit in bytes of the queue of one direction of a link, as the dataplane computes it.

    The rate of a trace is its mean. It is the smaller one of the limits in bytes and in time of the rate or,
    with a rate and no limit of any
    kind, 50 ms of the rate, two delays if that is longer, and at least 48,000 bytes. The dataplane computes
    the same (`LinkSpec::queue_limit_bytes`); both are tested with `tests/vectors/queue_limits.csv`.

    Args:
        spec: The stated fields by name (`LinkSpec.to_wire`).

    Returns:
        Bytes, or None where nothing limits the queue in bytes: without a rate and a limit in bytes, or with
        a limit in packets alone.
    """
    rate: int | None = spec.get("trace_rate_bps") or spec.get("rate_bps")
    in_bytes: int | None = spec.get("limit_bytes")
    micros: int | None = spec.get("limit_us")
    delay: int = spec.get("delay_us") or 0
    stated = [] if in_bytes is None else [in_bytes]
    if rate is not None and micros is not None:
        stated.append(min(rate * micros // _BITS_US, _MOST))
    if stated:
        return min(stated)
    if rate is None or spec.get("limit_packets") is not None:
        return None
    return min(max(rate * max(DEFAULT_US, 2 * delay) // _BITS_US, DEFAULT_LEAST), _MOST)
