"""Test clocks and deadlines."""

from __future__ import annotations

import pytest

from orchestrator.clock import Deadline, ManualClock, SystemClock, utc_text


def test_a_manual_clock_moves_only_when_told() -> None:
    clock = ManualClock(monotonic=5.0, wall=100.0)
    clock.advance(2.5)
    assert (clock.monotonic(), clock.wall()) == (7.5, 102.5)
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)


def test_a_deadline_counts_down_to_nothing_and_no_further() -> None:
    clock = ManualClock()
    deadline = Deadline(clock, 3.0)
    assert (deadline.remaining(), deadline.expired) == (3.0, False)
    clock.advance(4.0)
    assert (deadline.remaining(), deadline.expired) == (0.0, True)


def test_without_a_limit_a_deadline_never_comes() -> None:
    deadline = Deadline(ManualClock(), None)
    assert deadline.remaining() is None
    assert not deadline.expired


def test_the_systems_clock_does_not_go_back() -> None:
    clock = SystemClock()
    assert clock.monotonic() <= clock.monotonic()
    assert clock.wall() > 1_700_000_000


def test_moments_are_written_in_utc_with_milliseconds() -> None:
    assert utc_text(0.25) == "1970-01-01T00:00:00.250Z"
