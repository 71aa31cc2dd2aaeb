"""Test faults of nodes in timelines with real packets: made at their times, and undone at the end."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.lab import Lab
from orchestrator.procfs import ProcessId, send_signal
from orchestrator.testing.plugin import Labs
from tests.integration.conftest import Nm
from tests.integration.services import need
from tests.integration.test_timelines import RING, as_declared, events_of, happened, scenario
from tests.integration.waiting import all_wait, as_a_shell_says, run_in, until

PING = """
import re, subprocess
def waiter(ctx):
    ctx.barrier("here")
    if ctx.node == 1:
        command = ["ping", "-n", "-i", "0.02", "-w", "6", ctx.address(3)]
        said = subprocess.run(command, capture_output=True, text=True).stdout
        ctx.report(ttls=[int(ttl) for ttl in re.findall(r"ttl=([0-9]+)", said)])
    elif ctx.node == 2:
        ctx.report(began=True)
        ctx.lookup("never")
    ctx.barrier("done")
"""


def assert_not_judged_at(node: int, fidelity: Mapping[str, Any]) -> None:
    """The links of a node that the timeline killed are in the report, and none of them is judged."""
    assert fidelity["nodes_missing"] == []
    links = [each for each in fidelity["links"] if node in (each["a"], each["b"])]
    assert links and {(each["not_judged"], each["ok"]) for each in links} == {("node fault", None)}
    others = {each["not_judged"] for each in fidelity["links"] if each not in links}
    assert others <= {None}


def test_a_node_is_killed_and_started_during_a_ping_across_it_and_its_role_does_not_fail_the_run(
    labs: Labs, tmp_path: Path
) -> None:
    need("ping")
    lab = labs.up(RING)
    folder = scenario(
        tmp_path, "{at: 1 s, node: 2, do: kill, by: a crash}", "{at: 2 s, node: 2, do: start}", roles=PING
    )
    outcome = lab.run_scenario(folder, results=tmp_path / "out")
    assert outcome.verdict == "pass", outcome.reason
    (answers,) = [row["ttls"] for row in outcome.rows if row["node"] == 1]
    assert len(answers) > 200  # of 300, the others were lost or on their way when the node was killed
    run = Path(outcome.results)
    changes = happened(run)
    assert [(each["do"], each["where"], each["ok"]) for each in changes] == [
        ("kill", "node 2", True),
        ("start", "node 2", True),
    ]
    for each, at in zip(changes, (1.0, 2.0), strict=True):
        assert each["at_s"] == at <= each["sent_s"] < each["applied_s"] < at + 15
    (lost,) = events_of(run, "role_lost")
    assert lost == {"reason": "its node was stopped by the timeline"}
    assert events_of(run, "timeline_nodes_restored") == []
    causes = [event.detail["cause"] for event in lab.events() if event.name == "node.killed"]
    assert causes == ["timeline of waiting: a crash"]
    assert_not_judged_at(2, outcome.fidelity)
    assert_whole(lab)


def test_nodes_that_are_stopped_or_paused_at_the_end_run_again(labs: Labs, tmp_path: Path) -> None:
    lab = labs.up(RING)
    folder = scenario(
        tmp_path,
        "{at: 100 ms, node: 2, do: stop}",
        "{at: 100 ms, node: 4, do: pause}",
        roles="import time\ndef waiter(ctx):\n    ctx.report(a=1)\n    time.sleep(3)\n",
    )
    outcome = lab.run_scenario(folder, results=tmp_path / "out")
    assert outcome.verdict == "pass", outcome.reason
    (restored,) = events_of(Path(outcome.results), "timeline_nodes_restored")
    assert restored == {"started": [2], "unpaused": [4], "errors": []}
    assert outcome.fidelity["nodes_missing"] == []
    assert_whole(lab)
    again = lab.run_scenario(folder, results=tmp_path / "again")
    assert again.verdict == "pass", again.reason


@pytest.mark.parametrize("do", ["kill", "pause"])
def test_an_interrupt_lets_the_nodes_run_again(labs: Labs, nm: Nm, tmp_path: Path, do: str) -> None:
    lab = labs.up(RING)
    out = tmp_path / "out"
    folder = scenario(
        tmp_path, f"{{at: 100 ms, node: 2, do: {do}}}", "{at: 100 ms, set: [1, 2], delay: 9 ms}"
    )
    run = nm.start("run", "scenario", folder, "--results", out)
    until(lambda: all_wait(out) and len(happened(run_in(out))) == 2)
    assert [node.state for node in lab.status().nodes][1] in ("stopped", "paused")
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=60)
    assert as_a_shell_says(run.returncode) == 130, err
    (restored,) = events_of(run_in(out), "timeline_nodes_restored")
    assert restored["started"] + restored["unpaused"] == [2] and restored["errors"] == []
    assert_whole(lab)


def test_a_fault_that_the_controller_asks_for_again_after_a_restart_is_made_once(
    labs: Labs, part: Callable[[str, str], ProcessId], tmp_path: Path
) -> None:
    lab = labs.up(RING)
    seen: list[Any] = []

    def kill_controller(event: Any) -> None:
        seen.append(event.kind)
        if event.kind == "timeline_node" and seen.count("timeline_node") == 1:
            assert send_signal(part("ring", "controller"), signal.SIGKILL)

    folder = scenario(
        tmp_path,
        "{at: 100 ms, node: 2, do: kill}",
        roles="import time\ndef waiter(ctx):\n    ctx.report(a=1)\n    time.sleep(8)\n",
    )
    outcome = lab.run_scenario(folder, results=tmp_path / "out", on_event=kill_controller)
    assert outcome.verdict == "pass", outcome.reason
    assert [each["do"] for each in happened(Path(outcome.results))] == ["kill"]
    assert_whole(lab)


def assert_whole(lab: Lab) -> None:
    status = lab.status()
    assert status.state == "ready", status
    assert all(node.state == "ready" for node in status.nodes)
    until(lambda: as_declared(lab), 10)
