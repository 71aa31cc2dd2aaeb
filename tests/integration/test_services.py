"""Services of a native lab: started in order, restarted by policy, ended with the lab."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from orchestrator.deploy import state as notes
from orchestrator.deploy.home import Home
from orchestrator.lab import Lab
from orchestrator.procfs import ProcessId
from orchestrator.services import ServiceFailed, ServiceState, state
from orchestrator.testing.plugin import Labs
from tests.integration.conftest import shared_lab
from tests.integration.waiting import until

TEXT = """\
name: services
topology: {type: ring, n_nodes: 3}
nodes: {1: {name: web}}
services:
  page:
    nodes: 1
    command: python3 -u -m http.server 8000
    environment: {COLOUR: green}
    ready: {http: 8000/}
  reader:
    nodes: "2-3"
    command: [python3, -c, "import urllib.request as u; print(u.urlopen('http://web:8000').status)"]
    depends_on: [page]
  after: {nodes: 1, command: echo done, depends_on: {reader: {condition: service_completed_successfully}}}
  often:
    nodes: 2
    command: [sh, -c, "echo begins; sleep 1000 & wait"]
    restart: always
    ready: {log: "^begins$"}
"""
BAD = {
    "never": ("command: sleep 100, ready: {tcp: 9, timeout: 300 ms}", "did not become ready within 0.3 s"),
    "dies": (
        "command: [sh, -c, 'echo last words; exit 3'], restart: always, ready: {tcp: 9}",
        "ended 5 times",
    ),
    "missing": ("command: nosuchprogram", "has ended with exit code 127"),
}

lab = shared_lab(TEXT, backend="native")


def test_services_are_started_in_order_and_seen(lab: Lab) -> None:
    status = lab.status()
    assert status.state == "ready"
    shown = [(each["node"], each["service"], each["state"]) for each in status.as_json()["services"]]
    assert sorted(shown) == [
        (1, "after", "exited"),
        (1, "page", "ready"),
        (2, "often", "ready"),
        (2, "reader", "exited"),
        (3, "reader", "exited"),
    ]
    assert lab.node(3).service("reader").logs() == ["200"]


def test_commands_beside_a_service(lab: Lab, tmp_path: Path) -> None:
    page = lab.node("web").service("page")
    assert page.run("sh -c 'echo $COLOUR'").stdout == "green\n"
    assert lab.node(2).run(["python3", "-c", "import os; print(os.environ.get('COLOUR'))"]).stdout == "None\n"
    (tmp_path / "file").write_text("text")
    lab.node(3).copy_to(tmp_path / "file", f"{tmp_path}/there")
    lab.node(3).copy_from(f"{tmp_path}/there", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "text"


def test_what_ends_is_started_again_by_its_policy_and_on_request(home: Home, lab: Lab) -> None:
    often, page = lab.node(2).service("often"), lab.node(1).service("page")
    os.kill(published(home, "2/often").process, signal.SIGKILL)
    until(lambda: often.status().restarts == 1 and often.status().state == "ready")
    os.kill(published(home, "1/page").process, signal.SIGKILL)
    until(lambda: page.status().state == "failed")
    seen = lab.status()
    assert (seen.state, page.status().exit_code) == ("degraded", 137)
    assert "service page in node 1 is failed: it has ended with exit code 137" in seen.problems
    page.restart()
    assert (lab.status().state, page.status().state) == ("ready", "ready")


def test_services_come_back_with_their_node_and_with_the_process_that_runs_them(home: Home, lab: Lab) -> None:
    often = lab.node(2).service("often")
    lab.node(2).kill()
    until(lambda: often.status().state == "stopped")
    lab.node(2).start()
    until(lambda: often.status().state == "ready")
    note = notes.read(home.lab("services"))
    assert note is not None
    first = published(home, "1/page")
    os.kill(note.parts["services"].pid, signal.SIGKILL)
    until(lambda: (now := published(home, "1/page")).state == "ready" and now.process != first.process)
    assert not ProcessId(first.process, first.started).alive()


@pytest.mark.parametrize("name", BAD)
def test_a_service_that_fails_makes_the_start_fail(home: Home, name: str) -> None:
    keys, reason = BAD[name]
    labs = Labs(home)
    with pytest.raises(ServiceFailed) as caught:
        labs.up(f"name: bad\nn_nodes: 1\nservices:\n  {name}: {{nodes: 1, {keys}}}\n", backend="native")
    assert reason in caught.value.message
    assert f"service {name} in node 1" in caught.value.message
    assert caught.value.exit_code == 5
    if name == "dies":
        assert caught.value.lines[-1] == "last words"
    assert not home.lab("bad").exists()


def published(home: Home, key: str) -> ServiceState:
    """What the process that runs services says of one; nothing yet, while it is being started again."""
    nothing = ServiceState(node=0, service="", state="waiting")
    return state.read(home.lab("services").path).get(key, nothing)
