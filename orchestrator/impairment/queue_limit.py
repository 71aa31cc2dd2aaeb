"""The limit of a link's queue in bytes, with the default that applies where none is stated."""

from __future__ import annotations

__all__ = ["effective_limit_bytes"]

DEFAULT_US = 50_000
"""Default queue limit in microseconds of the rate; two delays if that is longer."""

DEFAULT_LEAST = 48_000
"""Lower bound of the default in bytes: 32 full packets, so that a slow link holds one window of TCP."""

_BITS_US = 8_000_000
"""Bits per second times microseconds that are one byte."""

_MOST = 2**64 - 1
"""What the dataplane counts with."""


def effective_limit_bytes(
    *,
    rate_bps: int | None = None,
    delay_us: int | None = None,
    limit_bytes: int | None = None,
    limit_packets: int | None = None,
    limit_us: int | None = None,
) -> int | None:
    """Return the limit in bytes of the queue of one direction of a link, as the dataplane computes it.

    It is the smaller one of the limits in bytes and in time of the rate or, with a rate and no limit of any
    kind, 50 ms of the rate, two delays if that is longer, and at least 48,000 bytes. The dataplane computes
    the same (`LinkSpec::queue_limit_bytes`); both are tested with `tests/vectors/queue_limits.csv`.

    Args:
        rate_bps: The rate; of a trace, its mean.
        delay_us: The delay in microseconds.
        limit_bytes: The stated limit in bytes.
        limit_packets: The stated limit in MTU segments.
        limit_us: The stated limit in microseconds of the rate.

    Returns:
        Bytes, or None where nothing limits the queue in bytes: without a rate and a limit in bytes, or with
        a limit in packets alone.
    """
    stated = [] if limit_bytes is None else [limit_bytes]
    if rate_bps is not None and limit_us is not None:
        stated.append(min(rate_bps * limit_us // _BITS_US, _MOST))
    if stated:
        return min(stated)
    if rate_bps is None or limit_packets is not None:
        return None
    micros = max(DEFAULT_US, 2 * (delay_us or 0))
    return min(max(rate_bps * micros // _BITS_US, DEFAULT_LEAST), _MOST)
