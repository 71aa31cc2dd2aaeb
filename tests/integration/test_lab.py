"""Test a native lab from start to end."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from orchestrator.deploy import processes
from orchestrator.deploy.home import Home
from orchestrator.errors import LabNotFound, UsageError
from orchestrator.lab import Lab
from orchestrator.testing.leftovers import leftovers
from orchestrator.testing.plugin import Labs
from tests.integration.conftest import RING, Nm


def test_a_ring_comes_up_answers_and_goes_away(nm: Nm, nm_home: Home) -> None:
    up = nm("up", RING, "--backend", "native", "-o", "json")
    assert up.code == 0, up.err
    assert up.json["state"] == "ready"
    assert [node["state"] for node in up.json["nodes"]] == ["ready"] * 4
    assert [link["state"] for link in up.json["links"]] == ["up"] * 4
    assert all(Path(node["config"]).is_file() for node in up.json["nodes"])
    assert nm("status", "-o", "json").json == up.json
    assert nm("labs", "-o", "json").json == [
        {"lab": "ring", "backend": "native", "state": "ready", "nodes": 4}
    ]
    assert nm("exec", "1", "--", "ping", "-c", "1", "-W", "2", "10.0.0.3").code == 0
    assert nm("exec", "1", "--", "ping", "-c", "1", "-W", "2", "node-3").code == 0
    for words in (["show", "1", "3"], ["set", "1", "3", "--delay", "5ms"], ["reset", "1", "3"]):
        said = nm("link", *words, "-o", "json")
        assert (said.code, said.error["id"]) == (2, "link.unknown")
    again = nm("up", RING)
    assert again.code == 0 and "already up" in again.err
    down = nm("down", "-o", "json")
    assert down.code == 0 and down.json[0]["found"]
    assert leftovers(nm_home) == []
    assert nm("down", "-n", "ring").code == 0


def test_exec_passes_codes_output_and_input_through(labs: Labs, nm: Nm) -> None:
    lab = labs.up(RING)
    assert nm("exec", "2", "--", "sh", "-c", "exit 7").code == 7
    assert nm("exec", "2", "--", "no-such-program").code == 127
    said = nm("exec", "1,3", "-o", "json", "--", "sh", "-c", "echo hi; exit 3")
    assert said.code == 3
    assert [(each["node"], each["exit_code"], each["stdout"]) for each in said.json] == [
        (1, 3, "hi\n"),
        (3, 3, "hi\n"),
    ]
    prefixed = nm("exec", "all", "--", "hostname", "-I")
    assert "node-2 | 10.0.0.2" in prefixed.out
    assert lab.node(1).run(["cat"], stdin=b"through").stdout == "through"
    assert lab.node("node-4").address == "10.0.0.4"
    assert nm("exec", "9", "--", "true").code == 2


def test_what_a_user_starts_in_a_node_ends_with_the_lab(labs: Labs, nm_home: Home) -> None:
    lab = labs.up(RING)
    # One that keeps its labels, and one that threw its environment away; nobody else sleeps so long.
    kept, bare = f"sleep 600.{os.getpid()}", f"sleep 601.{os.getpid()}"
    lab.node(1).run(["sh", "-c", f"{kept} >/dev/null 2>&1 & echo"])
    lab.node(2).run(["sh", "-c", f"env -i {bare} >/dev/null 2>&1 & echo"])
    assert _sleeping(kept) and _sleeping(bare)
    lab.down()
    assert not _sleeping(kept) and not _sleeping(bare)
    assert leftovers(nm_home) == []


def test_the_sdk_is_the_same_thing(labs: Labs) -> None:
    with labs.up(RING, name="mine") as lab:
        assert lab.name == "mine" and lab.backend == "native"
        assert Lab.attach("mine", home=labs.home).status().state == "ready"
        assert [each.lab for each in Lab.list(home=labs.home)] == ["mine"]
        done = lab.node(1).run(["ping", "-c", "1", "-W", "2", lab.node(3).address])
        assert done.exit_code == 0 and "1 received" in done.stdout
        assert [each.exit_code for each in lab.run_in_all(["true"])] == [0, 0, 0, 0]
        assert any("listening" in line for line in lab.logs("controller"))
    with pytest.raises(LabNotFound):
        Lab.attach("mine", home=labs.home)


async def test_the_async_api(nm_home: Home) -> None:
    async with Lab.up_async(RING, backend="native", home=nm_home) as lab:
        done = await lab.node(1).run(["ping", "-c", "1", "-W", "2", lab.node(2).address])
        assert done.exit_code == 0
        assert (await lab.status()).state == "ready"
    assert leftovers(nm_home) == []


def test_two_labs_do_not_disturb_each_other(labs: Labs) -> None:
    one, two = labs.up(RING, name="one"), labs.up(RING, name="two")
    for lab in (one, two):
        assert lab.node(1).run(["ping", "-c", "1", "-W", "2", "10.0.0.3"]).ok
    one.down()
    assert two.node(1).run(["ping", "-c", "1", "-W", "2", "10.0.0.3"]).ok
    assert two.status().state == "ready"


def test_two_ups_of_one_name_at_once_one_wins_the_other_is_told(nm: Nm) -> None:
    first, second = (nm.start("up", RING, "--backend", "native") for _ in range(2))
    ended = {process.wait(90): process.communicate()[1] for process in (first, second)}
    if set(ended) == {0, 5}:
        assert "is busy" in ended[5]
    else:
        assert set(ended) == {0}  # the second came after the first had finished
    assert nm("status", "-o", "json").json["state"] == "ready"
    assert nm("down").code == 0


def test_what_a_lab_cannot_become_while_it_runs_is_refused(labs: Labs) -> None:
    labs.up(RING, name="mine")
    with pytest.raises(UsageError, match="change seed") as caught:
        labs.up(RING, name="mine", overrides=["seed=5"])
    assert caught.value.id == "lab.differs"


def test_an_external_node_is_left_for_a_program_of_the_users_own(labs: Labs, nm: Nm) -> None:
    lab = labs.up(RING, external=[2])
    external = lab.node(2)
    assert external.external and external.config.is_file()
    states = {node.id: node.state for node in lab.status().nodes}
    assert states == {1: "ready", 2: "vacant", 3: "ready", 4: "ready"}
    assert f"nextmini_py.Dataplane('{external.config}')" in nm("up", RING, "--external", "2").err


def test_traceroute_shows_every_hop(labs: Labs) -> None:
    line = "name: line\ntopology: {type: line, n_nodes: 4}\n"
    lab = labs.up(line)
    done = lab.node(1).run(["traceroute", "-n", "-w", "1", "-q", "1", "10.0.0.4"], timeout=20)
    hops = [line.split()[1] for line in done.stdout.splitlines()[1:]]
    assert hops == ["10.0.0.2", "10.0.0.3", "10.0.0.4"]


def _sleeping(command: str) -> bool:
    found = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return command in found.stdout.splitlines()


def test_nothing_of_a_running_lab_is_garbage(labs: Labs, nm: Nm) -> None:
    lab = labs.up(RING)
    assert nm("gc", "-o", "json").json == []
    assert lab.status().state == "ready"
    assert processes.labelled(labs.home.path)
