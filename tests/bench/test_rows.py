"""Test how the rows of the fidelity table are judged, and the program that counts for them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from orchestrator.bench import ROWS, Result, measure
from orchestrator.bench.ends import End, NotApplicable
from orchestrator.bench.rows import inside_95
from orchestrator.bench.run import median, summary
from orchestrator.errors import RunFailed

BY_NAME = {row.name: row for row in ROWS}
MILLION = 1_000_000


def judged(name: str, **seen: Any) -> Result:
    return BY_NAME[name].judge({"count": MILLION, "overflow": 0, **seen})


@pytest.mark.parametrize(
    ("name", "seen", "ok"),
    [
        ("rate-100", {"bps": 96.5e6}, True),
        ("rate-100", {"bps": 95.0e6}, False),
        ("rate-100", {"bps": 98.0e6}, False),
        ("rate-5000", {"bps": 4.70e9}, True),
        ("long-fat", {"bps": 91.8e6}, True),
        ("long-fat", {"bps": 91.0e6}, False),
        ("loss-1", {"lost": 10_390}, True),
        ("loss-1", {"lost": 10_405}, False),
        ("loss-0.01", {"lost": 61}, True),
        ("loss-0.01", {"lost": 59}, False),
        ("gilbert", {"lost": 51_000, "bursts": 10_200}, True),
        ("gilbert", {"lost": 51_000, "bursts": 9_700}, False),
        ("gilbert", {"lost": 52_000, "bursts": 10_400}, False),
        ("wrr", {"bytes": [1_000, 2_020, 4_010]}, True),
        ("wrr", {"bytes": [1_000, 2_000, 4_200]}, False),
    ],
)
def test_a_figure_within_its_bar_is_kept(name: str, seen: dict[str, Any], ok: bool) -> None:
    assert judged(name, **seen).ok is ok


@pytest.mark.parametrize(
    ("name", "lost", "inside"),
    [("loss-1", 10_190, True), ("loss-1", 10_200, False), ("loss-0.01", 79, False)],
)
def test_a_loss_outside_the_interval_of_95_percent_is_said_and_kept(
    name: str, lost: int, inside: bool
) -> None:
    row, result = BY_NAME[name], judged(name, lost=lost)
    [shown] = summary([row], {name: result})["rows"]
    assert result.ok is True and shown["inside_95"] is inside
    assert inside_95(row, {}) is None and inside_95(BY_NAME["gilbert"], {"loss %": 5.0}) is None


def test_a_full_socket_is_no_loss_of_the_link() -> None:
    assert judged("loss-1", lost=10_000, overflow=3).ok is None
    assert judged("wrr", bytes=[0, 0, 0]).ok is None
    assert judged("delay-10", delays=[10_000_000] * 99).ok is None


def test_delays() -> None:
    good = [10_050_000] * 1000
    assert judged("delay-10", delays=good).ok is True
    assert judged("delay-10", delays=[10_150_000] * 1000).ok is False
    assert judged("delay-10", delays=[10_600_000] * 11 + good[11:]).ok is False  # more than 1 % are late
    assert judged("delay-10", delays=[10_600_000] * 10 + good[10:]).ok is True
    generator = random.Random(7)
    for deviation, ok in ((0.5, True), (0.6, False)):
        delays = [round(generator.gauss(5.0, deviation) * 1e6) for _ in range(2000)]
        assert judged("jitter", delays=delays).ok is ok


def test_the_delay_of_the_sockets_alone_is_not_that_of_the_link() -> None:
    seen = {"delays": [75_000] * 100, "baseline": [20_000] * 100}
    assert judged("added", **seen) == Result({"added µs": 55.0, "in all µs": 75.0}, True)
    assert judged("added", delays=[90_000] * 100, baseline=[20_000] * 100).ok is False


def test_packets_that_leave_faster_than_the_rate_are_counted_over_any_interval() -> None:
    slot = 1_200_000  # 1500 bytes at 10 Mbit/s
    even = [index * slot for index in range(600)]
    assert judged("spacing", arrivals=even).values["packets ahead of the rate"] == pytest.approx(0)
    burst = [303 * slot if 300 <= index <= 303 else arrival for index, arrival in enumerate(even)]
    assert judged("spacing", arrivals=burst).ok is False
    pairs = [arrival - arrival % (2 * slot) for arrival in even]
    assert judged("spacing", arrivals=pairs).values["packets ahead of the rate"] == pytest.approx(1)
    slow = [2 * arrival for arrival in even]
    assert judged("spacing", arrivals=slow).ok is True


def test_the_median_of_rounds_is_kept_where_most_rounds_are() -> None:
    rounds = [Result({"x": 1.0}, True), Result({"x": 9.0}, False), Result({"x": 2.0}, True)]
    assert median(rounds) == Result({"x": 2.0}, True)
    assert median([Result(reason="no"), *rounds[1:]]).ok is False
    assert median([Result(reason="no")]) == Result(reason="no")


@dataclass
class Loopback:
    """Ends on this machine's loopback device; the link does nothing, and some rows cannot be requested."""

    receiver_address: str = "127.0.0.1"

    def shape(self, spec: Mapping[str, Any]) -> None:
        if "scheduler" in spec:
            raise NotApplicable("no scheduler")

    def python(self, end: End, source: str, words: list[str], timeout_s: float) -> str:
        raise RunFailed(f"the {end} did not start")


def test_a_row_that_cannot_be_measured_says_why() -> None:
    rows = [BY_NAME["wrr"], BY_NAME["rate-1"]]
    results = measure(rows, Loopback(), lambda _text: None)
    assert (results["wrr"].ok, results["wrr"].reason) == (None, "no scheduler")
    assert (results["rate-1"].ok, results["rate-1"].reason) == (None, "the sender did not start")
