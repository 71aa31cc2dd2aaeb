"""Figures, memory readings and the command line of the benchmark of large labs."""

from __future__ import annotations

import pytest

from benchmarks.labs import topology
from benchmarks.scale.__main__ import main
from benchmarks.scale.figures import Figure, target_results
from benchmarks.scale.footprint import Footprint, MemoryReading, footprint, idle_cpu, read_settled
from benchmarks.scale.native import ping_targets

_MB = 1_000_000


def test_a_target_is_graded_by_the_figure_that_names_it() -> None:
    figures = [Figure("up", 1.5, "s", "median of 3", 11), Figure("down", 0.2, "s")]
    results = {result.number: result for result in target_results(figures, {})}
    assert sorted(results) == [10, 11, 12, 13, 14, 15, 16]
    assert (results[11].reached, results[11].grade, results[11].basis) == (1.5, "target", "median of 3")


def test_a_target_without_a_figure_keeps_its_reason() -> None:
    results = {result.number: result for result in target_results([], {14: "no Docker engine answers"})}
    assert (results[14].reached, results[14].note) == (None, "no Docker engine answers")
    assert results[12].note == "left out of this run"


def test_memory_per_node_is_the_kernels_and_the_hosts_share() -> None:
    taken = Footprint(
        nodes=1000, kernel=300 * _MB, host=10 * _MB, others={"controller": 50 * _MB}, all_in=400 * _MB
    )
    assert taken.per_node == pytest.approx(0.31)
    assert taken.all_in_per_node == pytest.approx(0.4)


def test_the_footprint_is_the_difference_of_two_readings() -> None:
    before = MemoryReading(available=1000, kernel=100, settled=True, waited_seconds=0)
    after = MemoryReading(available=400, kernel=350, settled=True, waited_seconds=0)
    taken = footprint(5, before, after, {"host": [], "controller": []})
    assert (taken.kernel, taken.host, taken.all_in) == (250, 0, 600)
    assert dict(taken.others) == {"controller": 0}


def test_memory_is_read_once_the_kernel_has_freed_what_it_will() -> None:
    slabs = iter([900_000, 500_000, 200_000, 200_000, 200_000, 200_000])
    reading = read_settled(read=lambda: _meminfo(next(slabs)), sleep=lambda _: None)
    assert reading.settled and reading.kernel == 200_000 * 1024
    assert reading.waited_seconds == pytest.approx(2.5)


def test_memory_that_never_settles_is_read_at_the_limit_and_says_so() -> None:
    counter = iter(range(10_000))
    reading = read_settled(limit=3, read=lambda: _meminfo(next(counter) * 100_000), sleep=lambda _: None)
    assert not reading.settled and reading.waited_seconds == 3


def test_a_process_that_is_gone_uses_no_cpu() -> None:
    assert idle_cpu({"host": [2**22 + 1]}, 0.01) == {"host": 0.0}


def test_pings_stay_within_the_routers_that_a_packet_can_pass() -> None:
    for nodes in (3, 4, 20, 100, 1000):
        targets = ping_targets(nodes)
        assert targets and 1 not in targets and max(targets) <= nodes
        assert all(min(target - 1, nodes + 1 - target) <= 60 for target in targets)
    assert ping_targets(100) == [2, 26, 51, 76, 100]


def test_a_topology_is_one_generator_with_a_seed() -> None:
    assert topology("ring", n_nodes=4) == "seed: 1\ntopology: {type: ring, n_nodes: 4}\n"


def test_an_unknown_part_is_wrong_usage() -> None:
    assert main(["--only", "nothing"]) == 2


def _meminfo(slab_kb: int) -> dict[str, int]:
    return {"MemAvailable": 10**9, "Slab": slab_kb * 1024}
