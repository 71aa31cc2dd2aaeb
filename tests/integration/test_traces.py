"""Test links that play traces, on TUN: goodput follows them, from the file and live."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.lab import Lab
from orchestrator.testing.plugin import Labs
from tests.integration.conftest import Nm
from tests.integration.rows import LIMIT_S, Row
from tests.integration.services import checked, need, serve, shape

PAYLOAD_OF_MTU = 1448 / 1500
"""TCP payload of a full segment with time stamps, and the segment with its headers."""

ATTEMPTS = 3
"""Times are measured with the clock of a machine that may have other work; see `test_links`."""


def test_tcp_follows_a_trace_of_two_steps(labs: Labs, nm: Nm, tmp_path: Path) -> None:
    """20 Mbit/s for 4 s from the change on, then 5 Mbit/s; the trace ends and its last row holds."""
    need("iperf3")
    lab = labs.up(shape("line", "delay: 1 ms"))
    steps = tmp_path / "steps.csv"
    steps.write_text("time_s,rate\n0,20 Mbit\n4,5 Mbit\n")
    found = []
    for _ in range(ATTEMPTS):
        assert nm("link", "set", 1, 2, "--forward", "--trace", "none").code == 0
        assert nm("link", "set", 1, 2, "--forward", "--trace", steps).code == 0
        rates = goodputs_mbit(lab, tmp_path)
        found.append((rates[2], rates[11]))  # 1 to 1.5 s and 5.5 to 6 s after the beginning
        first, second = (rate / PAYLOAD_OF_MTU for rate in found[-1])
        if 15 < first < 23 and 4 < second < 6:
            return
    pytest.fail(f"goodputs are {found} Mbit/s, expected about 19.3 and 4.8")


def test_datagrams_pass_at_the_opportunities_of_the_file(labs: Labs, tmp_path: Path) -> None:
    """20 opportunities of 37.6 bytes per second: 42 datagrams of 36 bytes in 2 s, and 10 in the queue."""
    (tmp_path / "slow.mahi").write_text("50\n")
    trace = f"{{file: {tmp_path}/slow.mahi, scale: 0.025}}"
    link = f"{{endpoints: [1, 2], trace: {trace}, limit: 10 packets}}"
    lab = labs.up(f"n_nodes: 2\nlinks: [{link}]\n")
    found = []
    for _ in range(ATTEMPTS):
        found.append(Row(lab.node(1), lab.node(2), tmp_path, 200, 1, 2).arrived().count)
        if 45 <= found[-1] <= 60:
            return
    pytest.fail(f"{found} datagrams arrived, expected about 52")


def test_a_trace_is_shown_ended_and_reset(labs: Labs, nm: Nm, tmp_path: Path) -> None:
    (tmp_path / "up.mahi").write_text("".join(f"{ms}\n" for ms in range(1, 101)))
    lab = labs.up(f"n_nodes: 2\nlinks: [{{endpoints: [1, 2], trace: {tmp_path}/up.mahi}}]\n")
    shown = nm("link", "show").out
    assert "trace up.mahi (loop, mean 12 Mbit)" in shown
    refused = nm("link", "set", 1, 2, "--rate", "5 Mbit")
    assert (refused.code, "sets the rate" in refused.err) == (2, True)
    assert nm("link", "set", 1, 2, "--trace", "none", "--rate", "5 Mbit").code == 0
    link = lab.status().links[0]
    assert link.forward is not None and (link.forward.trace, link.forward.rate_bps) == (None, 5_000_000)
    assert nm("link", "reset", 1, 2).code == 0
    link = lab.status().links[0]
    assert link.forward is not None and link.forward.trace_file == "up.mahi"
    assert link.forward.trace_data is None, "what a link does is shown without the content of its trace"


def goodputs_mbit(lab: Lab, folder: Path) -> list[float]:
    """Return what one TCP stream of 6 s sends in each half second."""
    source, target = lab.node(1), lab.node(2)
    serve(target, ["iperf3", "-s", "-1", "-p", "5201"], folder / "iperf3").wait_listening(5201)
    words = ["iperf3", "-c", target.address, "-p", "5201", "-t", "6", "-i", "0.5", "-l", "16K", "-J"]
    said = json.loads(checked(source.run(words, timeout=LIMIT_S)))
    return [interval["sum"]["bits_per_second"] / 1e6 for interval in said["intervals"]]
