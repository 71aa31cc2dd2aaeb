"""Test the measurement of thread wake-up time."""

from __future__ import annotations

import os
import threading

from benchmarks import wakeup


def test_waking_takes_some_time_and_leaves_the_caller_where_it_was() -> None:
    before = os.sched_getaffinity(0), threading.active_count()
    assert 0 < wakeup.round_trip_us(rounds=5) < 10_000_000
    assert (os.sched_getaffinity(0), threading.active_count()) == before
