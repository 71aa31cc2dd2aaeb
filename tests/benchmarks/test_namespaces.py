"""Test the kernel references and the path checks on a real chain of namespaces."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess

import pytest

from benchmarks import iperf, namespaces, path_checks
from benchmarks.iperf import Timing

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(
        not all(map(shutil.which, ("ip", "nsenter", "traceroute", "iperf3", "ping"))),
        reason="needs iproute2, util-linux, traceroute, iperf3 and iputils-ping",
    ),
]


def test_a_kernel_chain_passes_every_check_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    # A tenth of a second is for a quiet machine; tests run on any.
    monkeypatch.setattr(path_checks, "STOP_SECONDS", 5.0)
    with namespaces.veth_chain(3) as path:
        checks = path_checks.check_path(path, transfer_bytes=20_000_000)
        again = path_checks.check_path(path, transfer_bytes=4_000_000)  # the link that was taken down is back
        assert _own_namespaces()
    assert [check for check in checks + again if not check.ok] == []
    assert len(checks) == 5
    assert not _own_namespaces()


def test_a_path_that_claims_another_length_or_device_is_found_out() -> None:
    with namespaces.veth_chain(2) as path:
        lying = dataclasses.replace(
            path, hops=3, sender=dataclasses.replace(path.sender, interface="utun"), link_bytes=None, cut=None
        )
        failed = {check.name for check in path_checks.check_path(lying, transfer_bytes=1000) if not check.ok}
    assert failed == {"no kernel short cut", "traceroute shows every hop"}


def test_samples_of_a_real_path_are_plausible() -> None:
    timing = Timing(seconds=1, warm_up=0, pings=5)
    with namespaces.veth_chain(2) as path:
        stream = iperf.tcp(path, timing, None)
        small = iperf.udp(path, timing, None)
        idle = iperf.rtt(path, timing)
    assert stream.value > 0.1 and stream.detail["mss"] == 1448
    assert stream.cpu_seconds_per_gigabit is not None and stream.cpu_seconds_per_gigabit > 0
    assert small.value > 1000
    assert 1 < idle.value < 100_000


def test_namespaces_of_a_run_that_was_killed_are_removed_by_the_next() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    leftover = f"{namespaces.PREFIX}-{gone.pid}-1-0"
    subprocess.run(["ip", "netns", "add", leftover], check=True)
    assert leftover in namespaces.remove_leftovers()


def _own_namespaces() -> list[str]:
    listed = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True).stdout
    return [line for line in listed.splitlines() if line.startswith(f"{namespaces.PREFIX}-{os.getpid()}-")]
