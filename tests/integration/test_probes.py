"""Test that a probe finds what links of a real lab do, each direction, through the emulation and below it."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
import requests

from orchestrator import procfs
from orchestrator.deploy import state
from orchestrator.deploy.home import Home
from orchestrator.errors import NmError
from orchestrator.lab import Lab
from orchestrator.protocol.messages import ProbeStatus
from tests.integration.conftest import Nm, shared_lab
from tests.integration.waiting import until

LINKS = """\
name: probed
seed: 7
n_nodes: 4
links:
  - endpoints: [1, 2]
    forward: {rate: 20 Mbit, delay: 30 ms, loss: 1 %}
    backward: {rate: 5 Mbit, delay: 10 ms}
  - {endpoints: [2, 3]}
  - {endpoints: [3, 4], rate: 20 Mbit}
"""

pytestmark = pytest.mark.integration

LIMIT_S = 30.0

ATTEMPTS = 3
"""The clock is that of a machine that may have other work. A link that is wrong is wrong each time."""


lab = shared_lab(LINKS)


@pytest.fixture
def nm(home: Home, tmp_path: Path) -> Nm:
    """`nm` with the home of the lab that the tests share."""
    return Nm(home, tmp_path)


def is_as_declared(forward: ProbeStatus, backward: ProbeStatus) -> bool:
    """Whether both directions are what the file says, with 99.9 % of samples for the loss."""
    assert (forward.state, backward.state) == ("finished", "finished")
    ways = ((forward, 20e6, 0.01), (backward, 5e6, 0.0))
    for probe, rate, loss in ways:
        assert probe.capacity_bps is not None and probe.loss is not None
        assert probe.round_trip_p50_us is not None and probe.round_trip_p99_us is not None
        tolerance = 3.3 * (loss * (1 - loss) / probe.packets_sent) ** 0.5
        if abs(probe.capacity_bps - rate) > 0.02 * rate or abs(probe.loss - loss) > tolerance + 1e-9:
            return False
        if not 40_000 <= probe.round_trip_p50_us <= 41_500:
            return False
    return True


def test_both_directions_are_measured_as_declared(lab: Lab, nm: Nm) -> None:
    found: list[ProbeStatus] = []
    for _ in range(ATTEMPTS):
        printed = json.loads(nm("probe", "1", "2", "--both", "-o", "json").out)
        found = [ProbeStatus(**each) for each in printed]
        if is_as_declared(*found):
            break
    else:
        pytest.fail(f"not what the file says: {found}")
    assert [(each.src, each.dst) for each in found] == [(1, 2), (2, 1)]
    assert lab.probes(found[0].id - 1) == found
    names = [event.name for event in lab.events()]
    assert names.count("link.probed") >= 2


def test_below_the_emulation_nothing_limits(lab: Lab) -> None:
    probe = lab.link(1, 2).probe(below=True, time="1 s")
    assert (probe.state, probe.loss) == ("finished", 0.0)
    assert probe.capacity_bps is not None and probe.capacity_bps > 100e6
    assert probe.round_trip_p50_us is not None and probe.round_trip_p50_us < 20_000


def test_by_rest_and_by_sql(lab: Lab, nm: Nm) -> None:
    facts = lab.status().details()
    headers = {"Authorization": f"Bearer {Path(facts['token_file']).read_text().strip()}"}
    body = {"src": 4, "dst": 3, "time_ms": 400}
    answer = requests.post(f"{facts['api_url']}/probes", json=body, headers=headers, timeout=20)
    number = answer.json()["id"]
    insert = "INSERT INTO probes (src_node_id, dst_node_id, time_ms) VALUES (3, 4, 400)"
    assert nm("sql", "-c", insert).code == 0
    deadline = time.monotonic() + 10
    while not all(probe.ended for probe in lab.probes(number - 1)):
        assert time.monotonic() < deadline, "the probes end within their time"
        time.sleep(0.05)
    by_rest, by_sql = lab.probes(number - 1)
    assert (by_rest.state, by_sql.state) == ("finished", "finished")
    assert (by_rest.origin, by_sql.origin) == ("operator", "sql")
    assert by_sql.start_us is not None and by_rest.finish_us is not None
    assert by_sql.start_us >= by_rest.finish_us, "probes of one link run one after the other"
    again = requests.get(f"{facts['api_url']}/probes/{number}", headers=headers, timeout=20).json()
    assert again["capacity_bps"] == by_rest.capacity_bps


def test_a_probe_fails_with_the_reason(lab: Lab, nm: Nm) -> None:
    lab.link(3, 4).down()
    with pytest.raises(NmError) as caught:
        lab.link(3, 4).probe()
    assert caught.value.id == "probe.refused" and "taken down" in caught.value.message
    lab.link(3, 4).up()
    wrong = nm("probe", "1", "4")
    assert wrong.code == 2 and "node 1 has links to 2" in wrong.err
    assert nm("probe", "1", "2", "--bytes", "1 B").code == 2
    assert nm("probe", "1", "2", "--both", "--backward").code == 2


def test_a_probe_fails_when_a_node_or_the_controller_is_killed_meanwhile(lab: Lab, home: Home) -> None:
    """It does not last until its time is over; the next probe of the link works."""
    facts = lab.status().details()
    headers = {"Authorization": f"Bearer {Path(facts['token_file']).read_text().strip()}"}
    body = {"src": 3, "dst": 4, "time_ms": 60_000, "probe_bytes": 2**32}

    def begun() -> int:
        answer = requests.post(f"{facts['api_url']}/probes", json=body, headers=headers, timeout=20)
        number = int(answer.json()["id"])
        until(lambda: lab.probes(number - 1)[0].state == "running", LIMIT_S)
        return number

    def reason(number: int) -> str:
        until(lambda: lab.probes(number - 1)[0].ended, LIMIT_S)
        probe = lab.probes(number - 1)[0]
        assert probe.state == "failed"
        return probe.reason

    for node, expected in ((3, "node 3 was stopped meanwhile"), (4, "the link")):
        number = begun()
        lab.node(node).kill()
        assert expected in reason(number)
        lab.node(node).start()
    number = begun()
    note = state.read(home.lab(lab.name))
    assert note is not None
    procfs.send_signal(note.parts["controller"], signal.SIGKILL)
    until(lambda: lab.status().state == "ready", LIMIT_S)
    assert reason(number) == "the controller was started again meanwhile"
    until(lambda: _probes(lab), LIMIT_S)


def _probes(lab: Lab) -> bool:
    """Whether a short probe works; the node may still measure for the controller before."""
    try:
        return lab.link(3, 4).probe(time="200 ms").state == "finished"
    except NmError:
        return False
