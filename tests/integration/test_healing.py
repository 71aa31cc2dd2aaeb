"""Test that killed parts are restarted, and the lab's state is kept."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.deploy import processes
from orchestrator.deploy.home import Home
from orchestrator.errors import UsageError
from orchestrator.impairment import LinkSpec
from orchestrator.lab import Lab
from orchestrator.procfs import ProcessId
from orchestrator.supervisor import files
from orchestrator.supervisor.restarts import DEATHS
from orchestrator.testing.leftovers import leftovers
from orchestrator.testing.plugin import Labs
from tests.integration.conftest import RING, Nm
from tests.integration.damage import kill
from tests.integration.waiting import all_wait, until, write_waiting

Part = Callable[[str, str], ProcessId]
PARTS = ("host", "controller", "postgres")


def supervisor(home: Home) -> ProcessId:
    found = processes.labelled(home.path, "ring")
    [one] = [each.identity for each in found if "orchestrator.supervisor" in each.command]
    return one


def is_anew(part: Part, role: str, before: ProcessId) -> bool:
    now = part("ring", role)
    return now != before and now.alive()


@pytest.mark.parametrize("role", PARTS)
def test_a_killed_part_comes_back_by_itself(labs: Labs, part: Part, role: str) -> None:
    lab = labs.up(RING)
    lab.set_link(1, 2, LinkSpec(delay_us=3000))
    before = {each: part("ring", each) for each in PARTS}
    kill(before[role])
    until(lambda: is_anew(part, role, before[role]), 20)
    until(lambda: lab.status().state == "ready", 20)
    assert {each for each in PARTS if part("ring", each) != before[each]} == {role}
    # The controller hears of a host's death and of its successor's nodes some tenths of a second later.
    until(lambda: lab.node(1).run(["ping", "-c", "1", "-w", "5", "10.0.0.3"]).ok, 20)
    [link] = [link for link in lab.status().links if (link.a, link.b) == (1, 2)]
    assert link.forward is not None and link.forward.delay_us == 3000, (
        "what was set while the lab ran is still in force"
    )
    lab.down()
    assert leftovers(labs.home) == []


def test_a_killed_supervisor_comes_back_and_goes_on(labs: Labs, part: Part) -> None:
    lab = labs.up(RING)
    until(lambda: bool(files.report_file(labs.home.lab("ring").path).exists()))
    first = supervisor(labs.home)
    kill(first)
    until(lambda: any(each.alive() and each != first for each in all_supervisors(labs.home)), 20)
    host = part("ring", "host")
    kill(host)
    until(lambda: is_anew(part, "host", host), 20)
    until(lambda: lab.status().state == "ready", 20)
    assert any("host runs again" in line for line in lab.logs("supervisor"))


def all_supervisors(home: Home) -> list[ProcessId]:
    found = processes.labelled(home.path, "ring")
    return [each.identity for each in found if "orchestrator.supervisor" in each.command]


SLEEPY = """
import time
def waiter(ctx):
    ctx.report(started=True)
    ctx.barrier("all")
    time.sleep(3)
"""


@pytest.mark.parametrize("role", ["controller", "postgres"])
def test_a_run_goes_on_while_a_part_comes_back(
    labs: Labs, nm: Nm, part: Part, tmp_path: Path, role: str
) -> None:
    labs.up(RING)
    out = tmp_path / "out"
    folder = write_waiting(tmp_path / "waiting", SLEEPY)
    run = nm.start("run", "scenario", folder, "--results", out, "-o", "json")
    until(lambda: all_wait(out))
    kill(part("ring", role))
    said, err = run.communicate(timeout=60)
    assert run.returncode == 0, err
    assert json.loads(said)["verdict"] == "pass"


def test_a_role_whose_process_died_fails_the_run_by_name(
    labs: Labs, nm: Nm, part: Part, tmp_path: Path
) -> None:
    lab = labs.up(RING)
    out = tmp_path / "out"
    run = nm.start("run", "scenario", write_waiting(tmp_path / "waiting"), "--results", out, "-o", "json")
    until(lambda: all_wait(out))
    kill(part("ring", "host"))
    said, err = run.communicate(timeout=60)
    assert run.returncode == 1, err
    assert "waiter" in json.loads(said)["reason"] or json.loads(said)["failures"]
    until(lambda: lab.status().state == "ready", 20)


def test_commands_wait_for_a_part_that_comes_back(labs: Labs, nm: Nm, part: Part) -> None:
    labs.up(RING)
    kill(part("ring", "controller"))
    said = nm("link", "show", "-o", "json")
    assert said.code == 0, said.err
    until(lambda: nm("status", "-o", "json").json["state"] == "ready", 20)
    for role in ("controller", "postgres"):
        kill(part("ring", role))
        run = nm("run", "scenario", "pingall")
        assert run.code == 0, (role, run.err)


def test_a_part_that_fails_repeatedly_is_not_restarted_any_more_and_named(
    labs: Labs, nm: Nm, nm_home: Home, part: Part
) -> None:
    lab = labs.up(RING)
    # A controller that cannot start: its file is there, and says nothing that it could use.
    settings = nm_home.lab("ring").run / "controller.toml"
    good = settings.read_text()
    settings.write_text(good.replace("[", "[[", 1))
    before = part("ring", "controller")
    kill(before)
    report = files.report_file(nm_home.lab("ring").path)
    until(lambda: report.exists() and json.loads(report.read_text())["left_dead"] == ["controller"], 60)
    settings.write_text(good)
    seen = lab.status()
    assert seen.state == "degraded"
    [problem] = [each for each in seen.problems if "not restarted" in each]
    assert problem.startswith("controller does not run") and f"{DEATHS} times" in problem
    assert "controller.toml" in problem, "its last output"
    up = nm("up", RING)
    assert up.code == 0 and "restarted: controller" in up.err
    assert lab.status().state == "ready"
    assert json.loads(report.read_text())["left_dead"] == []


@pytest.mark.parametrize("role", PARTS)
def test_down_ends_the_supervisor_first(labs: Labs, nm: Nm, part: Part, role: str) -> None:
    labs.up(RING)
    kill(part("ring", role))  # the supervisor is about to start it again, or is at it
    down = nm("down", "-n", "ring")
    assert down.code == 0, down.err
    assert leftovers(labs.home) == []


def test_up_beside_the_supervisor_waits_for_it(labs: Labs, nm: Nm, part: Part) -> None:
    lab = labs.up(RING)
    before = part("ring", "host")
    kill(before)
    up = nm("up", RING)
    assert up.code == 0, up.err
    assert lab.status().state == "ready"
    found = processes.labelled(labs.home.path, "ring")
    hosts = [each for each in found if "orchestrator.node" in each.command]
    assert len(hosts) == 1, "one of them started it, not both"


def test_parts_of_a_lab_whose_folder_was_removed_are_ended(labs: Labs, part: Part, tmp_path: Path) -> None:
    lab = labs.up(RING)
    parts = [part("ring", each) for each in PARTS]
    database = part("ring", "postgres")
    until(lambda: any("watching" in line for line in lab.logs("supervisor")))
    labs.home.lab("ring").path.rename(tmp_path / "removed")  # at one moment: the database goes on writing
    kill(database)  # the supervisor looks at once, not only every 30 s
    until(lambda: not any(each.alive() for each in parts), 30)
    until(lambda: leftovers(labs.home) == [], 30)


def test_a_terminals_signals_do_not_reach_the_supervisor(labs: Labs) -> None:
    labs.up(RING)
    until(lambda: bool(all_supervisors(labs.home)))
    process = supervisor(labs.home)
    until(lambda: os.getsid(process.pid) == process.pid)


def test_without_restarts_a_part_stays_dead(labs: Labs, part: Part) -> None:
    lab = labs.up(RING, restart=False)
    assert all_supervisors(labs.home) == []
    labs.up(RING, name="other")
    with pytest.raises(UsageError, match="started again"):
        labs.up(RING, name="other", restart=False)
    kill(part("ring", "host"))
    seen = lab.status()
    assert seen.state == "degraded"
    assert any("host does not run" in each and "started again" not in each for each in seen.problems)
    assert all_supervisors(labs.home) == []


def test_lab_is_ready_with_all_its_parts_shown(labs: Labs, nm: Nm) -> None:
    lab: Lab = labs.up(RING)
    until(lambda: bool(all_supervisors(labs.home)))
    shown = {each["part"]: each["running"] for each in nm("inspect", "-o", "json").json["parts"]}
    assert shown == dict.fromkeys(("postgres", "controller", "host", "supervisor"), True)
    lab.down()
