"""Test rate, delay, jitter, loss and limit of links, from the file and live.

One-way delays compare two looks at one clock: the sender's before it sends, and the kernel's at arrival.
`datagrams.py` says how arrivals are counted.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from math import sqrt
from pathlib import Path

import pytest

from orchestrator.deploy.home import Home
from orchestrator.impairment import LinkSpec
from orchestrator.lab import Lab, Node
from orchestrator.testing.plugin import Labs
from tests.integration.conftest import Nm
from tests.integration.rows import LIMIT_S, Row, send
from tests.integration.services import checked, need, serve, shape

PAIRS = """\
name: pairs
seed: 7
n_nodes: 8
links:
  - {endpoints: [1, 2], forward: {rate: 100 Mbit}, backward: {rate: 20 Mbit}}
  - {endpoints: [3, 4], forward: {delay: 20 ms}, backward: {delay: 5 ms}}
  - {endpoints: [5, 6], forward: {loss: 1 %}, backward: {loss: 0.2 %}}
  - endpoints: [7, 8]
    forward: {rate: 1 Mbit, limit: 10 packets}
    backward: {rate: 1 Mbit, limit: 5 KB}
  - {endpoints: [2, 3]}
  - {endpoints: [4, 5]}
  - {endpoints: [6, 7]}
"""
"""Two nodes for each thing, and plain links between them."""

PAYLOAD_OF_MTU = 1448 / 1500
"""TCP payload of a full segment with time stamps, and the segment with its headers."""

ATTEMPTS = 3
"""Rate and delay are measured with the clock of a machine that may have other work. A link that is wrong is
wrong each time; a measurement that was held up is right the next time."""


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    labs = Labs(Home(tmp_path_factory.mktemp("pairs") / "nm"))
    try:
        yield labs.up(PAIRS)
    finally:
        labs.end()


# What the file says.


@pytest.mark.parametrize(("source", "target", "mbit"), [(1, 2, 100), (2, 1, 20)])
def test_tcp_gets_the_rate_less_its_headers(
    pairs: Lab, source: int, target: int, mbit: int, tmp_path: Path
) -> None:
    need("iperf3")
    expected = mbit * PAYLOAD_OF_MTU
    ends = pairs.node(source), pairs.node(target)
    assert_near(lambda: goodput_mbit(*ends, tmp_path), expected, 0.03 * expected)


@pytest.mark.parametrize(("source", "target", "added_ms"), [(3, 4, 20), (4, 3, 5)])
def test_the_delay_is_added_one_way(
    pairs: Lab, source: int, target: int, added_ms: float, tmp_path: Path
) -> None:
    def added() -> float:
        base = one_way_ms(pairs.node(2), pairs.node(3), tmp_path)
        return one_way_ms(pairs.node(source), pairs.node(target), tmp_path) - base

    assert_near(added, added_ms, 0.5)


@pytest.mark.parametrize(("source", "target", "loss"), [(5, 6, 0.01), (6, 5, 0.002)])
@pytest.mark.parametrize("segments", [1, 40], ids=["packets", "super-packets"])
def test_losses_lie_in_the_binomial_interval(
    pairs: Lab, source: int, target: int, loss: float, segments: int, tmp_path: Path
) -> None:
    """The draws come from the seed; super-packets are drawn for segment by segment."""
    lost = 100_000 - send(pairs.node(source), pairs.node(target), tmp_path, 100_000, segments)
    low, high = binomial_interval(100_000, loss)
    assert low <= lost <= high


def test_plain_links_lose_nothing(pairs: Lab, tmp_path: Path) -> None:
    assert send(pairs.node(2), pairs.node(3), tmp_path, 40_000) == 40_000
    assert send(pairs.node(3), pairs.node(2), tmp_path, 40_000, 40) == 40_000


def test_a_queue_takes_as_many_packets_as_its_limit_says(pairs: Lab, tmp_path: Path) -> None:
    """Of a burst in one piece, ten wait behind at most one that is being sent; the rest is dropped."""
    assert send(pairs.node(7), pairs.node(8), tmp_path, 40, 40) in (10, 11)


def test_a_queue_takes_as_many_bytes_as_its_limit_says(pairs: Lab, tmp_path: Path) -> None:
    """5 KB have room for three segments of 1,428 bytes."""
    assert send(pairs.node(8), pairs.node(7), tmp_path, 40, 40) in (3, 4)


# What is changed while the lab is up.


def test_delay_live_and_back(labs: Labs, nm: Nm, tmp_path: Path) -> None:
    need("ping")
    lab = labs.up(shape("line"))
    base = round_trip_ms(lab, 1, 2)
    assert nm("link", "set", 1, 2, "--delay", "20ms").code == 0
    assert_near(lambda: (round_trip_ms(lab, 1, 2) - base) / 2, 20, 0.5)
    assert_near(lambda: round_trip_ms(lab, 2, 3), base, 1)
    assert nm("link", "set", 1, 2, "--delay", "0ms", "--direction", "backward").code == 0
    assert_near(lambda: one_way_ms(lab.node(1), lab.node(2), tmp_path), 20, 1)
    assert_near(lambda: one_way_ms(lab.node(2), lab.node(1), tmp_path), 0, 1)
    shown = nm("link", "show", 1, 2, "-o", "json").json
    assert shown[0]["forward"] == {"delay_us": 20_000}
    assert nm("link", "reset", 1, 2).code == 0
    assert_near(lambda: round_trip_ms(lab, 1, 2), base, 1)
    assert nm("link", "show", 1, 2, "-o", "json").json[0]["forward"] == {}


def test_jitter_and_bursts_from_the_file_and_live(labs: Labs, nm: Nm, tmp_path: Path) -> None:
    """Packets 50 ms apart have delays of their own; those of one direction vary."""
    need("ping")
    lab = labs.up(
        "name: varying\nseed: 7\nn_nodes: 2\nlinks:\n  - endpoints: [1, 2]\n"
        "    forward: {delay: 20 ms, jitter: {std: 5 ms, distribution: uniform},\n"
        "              loss: {mean: 10 %, burst: 4}}\n"
    )
    one, two = lab.node(1), lab.node(2)
    lost, runs = losses(sequence(lab, 1000, 0.002))
    assert 0.05 < lost / 1000 < 0.17 and 2.5 < lost / runs < 6.5, (lost, runs)
    assert nm("link", "set", 1, 2, "--loss", "0", "--direction", "forward").code == 0
    times: list[float] = []

    def deviation() -> float:
        times[:] = round_trips_ms(lab, 1, 2, 0.05)
        return statistics.stdev(times)

    assert_near(deviation, 5, 1.2)
    # A busy machine adds milliseconds to each round trip; without the delay the mean would be below 10.
    assert abs(statistics.fmean(times) - 20) < 4, times
    assert fast_spread(times) > 2, times  # 4.3 ms, were they exact
    numbers = [number for number, _ in sequence(lab, 1000, 0.001)]
    assert numbers == list(range(1, 1001)), "nothing is lost or reordered"
    long = "{std: 5 ms, distribution: normal, reorder: true}"
    assert nm("link", "set", 1, 2, "--jitter", long, "--direction", "forward").code == 0
    numbers = [number for number, _ in sequence(lab, 1000, 0.001)]
    assert numbers != sorted(numbers) and sorted(numbers) == list(range(1, 1001))
    shown = nm("link", "show", 1, 2, "-o", "json").json[0]["forward"]
    assert shown == {
        "delay_us": 20_000,
        "jitter_us": 5_000,
        "jitter_distribution": "normal",
        "jitter_reorder": True,
        "loss": 0.0,
    }
    refused = nm("link", "set", 1, 2, "--delay", "1ms", "--jitter", "5ms")
    assert refused.code == 2 and "larger than the delay" in refused.err
    assert nm("link", "show", 1, 2, "-o", "json").json[0]["forward"] == shown
    assert nm("link", "set", 1, 2, "--jitter", "0").code == 0
    assert_near(lambda: fast_spread(round_trips_ms(lab, 1, 2, 0.01)), 0, 0.5)
    lab.set_link(1, 2, LinkSpec(delay_us=20_000, jitter_us=5_000), direction="backward")
    assert_near(lambda: statistics.stdev(round_trips_ms(lab, 1, 2, 0.05)), 5, 1.2)
    assert one.run(["ping", "-c", "1", "-W", "5", two.address]).ok


def test_rate_and_loss_live_and_back_to_what_the_file_declares(labs: Labs, nm: Nm, tmp_path: Path) -> None:
    need("iperf3", "ping")
    lab = labs.up(shape("line", "rate: 200 Mbit"))
    one, two = lab.node(1), lab.node(2)
    assert nm("link", "set", 1, 2, "--rate", "50 Mbit", "--direction", "forward").code == 0
    assert_near(lambda: goodput_mbit(one, two, tmp_path), 50 * PAYLOAD_OF_MTU, 2)
    assert_near(lambda: goodput_mbit(two, one, tmp_path), 200 * PAYLOAD_OF_MTU, 8)
    assert nm("link", "set", 1, 2, "--loss", "100 %").code == 0
    assert not one.run(["ping", "-c", "2", "-i", "0.1", "-W", "1", two.address]).ok
    assert nm("link", "reset", 1, 2).code == 0
    assert checked(one.run(["ping", "-c", "2", "-i", "0.1", "-W", "5", two.address]))
    assert_near(lambda: goodput_mbit(one, two, tmp_path), 200 * PAYLOAD_OF_MTU, 8)


def test_changes_lose_nothing(labs: Labs, tmp_path: Path) -> None:
    """What waits in a queue or for its delay goes on when the link becomes another, or plain."""
    lab = labs.up(shape("line"))
    row = Row(lab.node(1), lab.node(2), tmp_path, 4000, 1, 2.0)
    changes = [LinkSpec(delay_us=20_000), LinkSpec(delay_us=1_000), LinkSpec(rate_bps=50_000_000), None]
    count = 0
    while row.moving:
        change = changes[count % len(changes)]
        lab.set_link(1, 2, change, reset=change is None)
        count += 1
    assert count > len(changes)
    assert row.arrived().count == 4000


def test_the_seed_decides_how_many_packets_are_lost(labs: Labs, tmp_path: Path) -> None:
    counts = []
    for number, seed in enumerate((7, 7, 8)):
        text = shape("line", "loss: 3 %").replace("seed: 7", f"seed: {seed}")
        with labs.up(text, name=f"seed-{number}") as lab:
            counts.append(send(lab.node(1), lab.node(2), tmp_path, 20_000, 40))
    assert counts[0] == counts[1]
    assert counts[0] != counts[2]


@pytest.mark.parametrize("name", ["ring", "random"])
def test_weights_sync_is_exact_at_five_percent_loss_on_every_link(
    labs: Labs, name: str, tmp_path: Path
) -> None:
    lab = labs.up(shape(name, "loss: 5 %"))
    outcome = lab.run_scenario("weights-sync", params={"size": "16 MB"}, results=tmp_path / "out")
    assert outcome.verdict == "pass", (outcome.reason, outcome.failures, outcome.checks)
    workers = [row for row in outcome.rows if row["role"] == "worker"]
    assert {(row["state"], row["bytes"]) for row in workers} == {("complete", 16_000_000)}
    assert len({row["sha256"] for row in outcome.rows}) == 1
    assert max(row["repair_rounds"] for row in workers) > 0


# How it is measured.


def one_way_ms(source: Node, target: Node, folder: Path) -> float:
    """Return the delay of 200 datagrams, 5 ms apart."""
    return quick(Row(source, target, folder, 200, 1, 1.0).arrived().delays_ms)


def sequence(lab: Lab, count: int, gap_s: float) -> list[tuple[int, float]]:
    """Return number and round trip of the pings from node 1 to node 2 that came back, in order."""
    words = ["ping", "-n", "-c", str(count), "-i", str(gap_s), "-W", "2", lab.node(2).address]
    said = lab.node(1).run(words, timeout=LIMIT_S).stdout
    found = re.findall(r"icmp_seq=(\d+) ttl=\d+ time=([\d.]+) ms", said)
    return [(int(number), float(time)) for number, time in found]


def losses(came: Sequence[tuple[int, float]]) -> tuple[int, int]:
    """Return how many numbers are missing, and in how many runs."""
    gaps = [after - before - 1 for (before, _), (after, _) in pairwise(came)]
    return sum(gaps), sum(gap > 0 for gap in gaps)


def round_trips_ms(lab: Lab, source: int, target: int, gap_s: float) -> list[float]:
    """Return the times of 100 round trips."""
    words = ["ping", "-n", "-c", "100", "-i", str(gap_s), "-W", "5", lab.node(target).address]
    said = checked(lab.node(source).run(words, timeout=LIMIT_S))
    return [float(each) for each in re.findall(r"time=([\d.]+) ms", said)]


def round_trip_ms(lab: Lab, source: int, target: int) -> float:
    """Return the delay of 100 round trips, 10 ms apart."""
    words = ["ping", "-n", "-c", "100", "-i", "0.01", "-W", "5", lab.node(target).address]
    said = checked(lab.node(source).run(words, timeout=LIMIT_S))
    return quick([float(each) for each in re.findall(r"time=([\d.]+) ms", said)])


def quick(times_ms: Sequence[float]) -> float:
    """Return the lower quartile.

    With nothing else to do the machine shows the same as mean, median and quartile. With more programs than
    processors the slower ones of the packets tell how long programs wait for a processor, not what the link
    does; the daily benchmark measures the mean on a quiet machine.
    """
    return statistics.quantiles(times_ms, n=4)[0]


def fast_spread(times_ms: Sequence[float]) -> float:
    """Return the lower quartile less the smallest; see `quick` for why the slower ones are left out."""
    return quick(times_ms) - min(times_ms)


def goodput_mbit(source: Node, target: Node, folder: Path) -> float:
    """Return what one TCP stream brings to the receiver in 2 s, after the first second."""
    serve(target, ["iperf3", "-s", "-1", "-p", "5201"], folder / "iperf3").wait_listening(5201)
    words = ["iperf3", "-c", target.address, "-p", "5201", "-C", "cubic", "-O", "1", "-t", "2", "-J"]
    said = json.loads(checked(source.run(words, timeout=LIMIT_S)))
    return float(said["end"]["sum_received"]["bits_per_second"] / 1e6)


def assert_near(measure: Callable[[], float], expected: float, tolerance: float) -> None:
    """Measure until it is right, a few times; see `ATTEMPTS`."""
    seen: list[float] = []
    for _ in range(ATTEMPTS):
        seen.append(measure())
        if abs(seen[-1] - expected) <= tolerance:
            return
    pytest.fail(f"measured {seen}, expected {expected} ± {tolerance}")


def binomial_interval(trials: int, probability: float) -> tuple[int, int]:
    """Return the 95 % interval of losses, by the normal approximation."""
    mean, deviation = trials * probability, sqrt(trials * probability * (1 - probability))
    return round(mean - 1.96 * deviation), round(mean + 1.96 * deviation)
