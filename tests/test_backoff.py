"""Test the delays between attempts."""

from __future__ import annotations

from orchestrator.backoff import Backoff


def test_the_delay_grows_to_its_maximum_and_starts_again() -> None:
    backoff = Backoff(1.0, 4.0, factor=2.0)
    delays = [backoff.next_delay() for _ in range(5)]
    bases = [1, 2, 4, 4, 4]
    assert all(base / 2 <= delay <= base for base, delay in zip(bases, delays, strict=True))
    backoff.reset()
    assert backoff.next_delay() <= 1.0


def test_delays_of_many_differ() -> None:
    assert len({Backoff(1.0).next_delay() for _ in range(100)}) > 90
