"""Test the parsers of tool output and kernel files."""

from __future__ import annotations

import os

import pytest

from benchmarks.commands import Background
from benchmarks.datagrams import Arrivals, Counted, between, parse_udp_counters
from benchmarks.errors import BenchmarkError
from benchmarks.iperf import parse_ping, parse_tcp, parse_udp
from benchmarks.machine import parse_kernel_config
from benchmarks.namespaces import chain_commands
from benchmarks.path_checks import counters_agree, parse_traceroute
from benchmarks.proc import (
    descendants,
    kernel_bytes,
    parse_busy_ticks,
    parse_meminfo,
    processes_with_environment,
)


def test_a_tcp_result_counts_cpu_time_over_all_bits_with_the_warm_up() -> None:
    record = {
        "start": {"tcp_mss_default": 1448},
        "intervals": [{"sum": {"bytes": 125_000_000}}, {"sum": {"bytes": 1_125_000_000}}],
        "end": {"sum_sent": {"retransmits": 4}, "sum_received": {"bits_per_second": 9e9}},
    }
    sample = parse_tcp(record, busy=2.0, wall=2.5)
    assert sample.value == 9.0
    assert sample.cpu_seconds_per_gigabit == pytest.approx(0.2)
    assert sample.cores_busy == pytest.approx(0.8)
    assert sample.retransmits == 4
    assert sample.detail["mss"] == 1448


def test_a_udp_result_is_what_was_delivered_not_what_was_offered() -> None:
    record = {
        "end": {
            "sum_sent": {"packets": 1000},
            "sum_received": {"bytes": 64 * 600, "seconds": 2.0, "lost_percent": 40.0},
        }
    }
    sample = parse_udp(record, busy=1.0, wall=2.0, size=64)
    assert sample.value == 300.0
    assert sample.detail == {"offered_per_second": 500.0, "lost_percent": 40.0}


def test_round_trips_come_in_microseconds_with_the_median_first() -> None:
    text = "".join(f"64 bytes from 10.0.0.2: icmp_seq=1 ttl=64 time={t} ms\n" for t in (0.05, 0.04, 0.9))
    sample = parse_ping(text + "4 packets transmitted, 3 received, 25% packet loss, time 3ms\n")
    assert sample.value == pytest.approx(50.0)
    assert sample.detail["lost"] == 1.0
    assert sample.detail["max"] == pytest.approx(900.0)


def test_a_silent_ping_is_an_error_and_not_a_zero() -> None:
    with pytest.raises(BenchmarkError, match="no answer"):
        parse_ping("3 packets transmitted, 0 received, 100% packet loss, time 2ms\n")


def test_traceroute_lines_become_addresses() -> None:
    text = (
        "traceroute to 10.0.0.3 (10.0.0.3), 30 hops max\n 1  10.0.0.2  0.05 ms\n 2  *\n 3  10.0.0.3  0.1 ms\n"
    )
    assert parse_traceroute(text) == ["10.0.0.2", "*", "10.0.0.3"]


@pytest.mark.parametrize(
    ("deltas", "ok"),
    [
        ([1_036_000, 1_036_000], True),
        ([1_000_500], True),  # counted by super-packet: one header for many segments
        ([999_999, 1_036_000], False),  # a link that carried less than what arrived
        ([1_036_000, 1_052_000], False),  # two links of one path that disagree
        ([2_072_000, 2_072_000], False),  # counted twice
        ([], False),
    ],
)
def test_counters_must_hold_the_payload_its_headers_and_little_more(deltas: list[int], ok: bool) -> None:
    assert counters_agree(1_000_000, deltas)[0] is ok


def test_a_kernel_option_that_is_not_set_is_n() -> None:
    flags = parse_kernel_config("CONFIG_TUN=y\n# CONFIG_NET_SCH_NETEM is not set\nCONFIG_HZ=250\n")
    assert (flags["TUN"], flags["NET_SCH_NETEM"], flags["HZ"]) == ("y", "n", "250")


def test_busy_time_leaves_out_idle_waiting_and_stolen_time() -> None:
    assert parse_busy_ticks("cpu  1 2 4 1000 2000 8 16 4000 0 0\ncpu0 9 9 9 9 9 9 9 9 9 9\n") == 31


def test_meminfo_is_read_in_bytes_and_counts_are_left_out() -> None:
    found = parse_meminfo("MemTotal:  10 kB\nSlab:   3 kB\nPercpu: 1 kB\nHugePages_Total:       7\n")
    assert found == {"MemTotal": 10240, "Slab": 3072, "Percpu": 1024}
    assert kernel_bytes(found) == 4096


def test_a_datagram_that_a_full_socket_lost_was_not_lost_on_the_way() -> None:
    before = Counted(sent=10, arrived=5, overflowed=1, queue_drops=0)
    after = Counted(sent=1010, arrived=945, overflowed=51, queue_drops=3)
    assert between(before, after) == Arrivals(sent=1000, lost=10, overflowed=50, queue_drops=3)


def test_the_kernels_datagram_counters_are_found_by_name() -> None:
    text = "Ip: A B\nIp: 1 2\nUdp: InDatagrams NoPorts OutDatagrams RcvbufErrors\nUdp: 7 1 9 2\n"
    assert parse_udp_counters(text) == (9, 7, 2)


def test_processes_are_found_by_label_and_by_descent() -> None:
    label = f"nmbench-test-{os.getpid()}"
    words = ["sh", "-c", "env -i sleep 60 & echo $!; wait"]
    with Background(words, env={**os.environ, "NMBENCH_LABEL": label}) as process:
        child = int(process.wait_for_line("", timeout=5))
        assert process.popen.pid in processes_with_environment("NMBENCH_LABEL", label)
        assert descendants(process.popen.pid) == [child]
        assert child in descendants(os.getpid())


def test_a_chain_gives_each_namespace_a_way_to_both_ends() -> None:
    lines = chain_commands(("a", "b", "c"), mtu=1500)
    assert "link add right netns a mtu 1500 type veth peer name left netns b mtu 1500" in lines
    routes = [line for line in lines if "route add" in line]
    assert routes == [
        "-n a route add 198.18.1.0/30 via 198.18.0.2",
        "-n c route add 198.18.0.0/30 via 198.18.1.1",
    ]
