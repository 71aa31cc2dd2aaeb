"""Test the waits between attempts."""

from __future__ import annotations

from orchestrator.backoff import Backoff


def test_the_wait_grows_to_its_limit_and_starts_again() -> None:
    backoff = Backoff(first=1.0, factor=2.0, limit=4.0)
    waits = [backoff.next_wait() for _ in range(5)]
    bases = [1, 2, 4, 4, 4]
    assert all(base / 2 <= wait <= base for wait, base in zip(waits, bases, strict=True))
    backoff.reset()
    assert backoff.next_wait() <= 1.0


def test_waits_of_many_differ() -> None:
    assert len({Backoff(1.0).next_wait() for _ in range(100)}) > 90
