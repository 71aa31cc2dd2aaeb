"""Test scenarios in a real lab: shipped ones, custom ones and failing ones."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator import resources
from orchestrator.deploy import state
from orchestrator.deploy.home import Home
from orchestrator.errors import ScenarioInvalid
from orchestrator.lab import Lab
from orchestrator.procfs import send_signal
from tests.integration.conftest import RING, Nm
from tests.integration.waiting import run_in

CHECK = "checks:\n  - {name: all, rows: worker, where: 'ok == True', count: all}\n"


def write_scenario(
    folder: Path, roles: str, *, params: str = "", timeout: str = "20 s", checks: str = CHECK
) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "scenario.yaml").write_text(
        f"name: mine\nsummary: a test\n{params}"
        f"roles:\n  trainer: {{nodes: 1}}\n  worker: {{nodes: rest}}\n{checks}timeout: {timeout}\n"
    )
    (folder / "roles.py").write_text(roles)
    return folder


@pytest.fixture(scope="module")
def ring(home: Home) -> Iterator[Lab]:
    """One lab for all experiments of this file: a lab outlives what goes wrong in a run."""
    with Lab.up(RING, backend="native", home=home) as lab:
        yield lab


@pytest.fixture
def nm(ring: Lab, home: Home, tmp_path: Path) -> Nm:
    return Nm(home, tmp_path)


def test_weights_sync_delivers_a_real_file_exactly(ring: Lab, tmp_path: Path) -> None:
    payload = tmp_path / "weights.bin"
    payload.write_bytes(os.urandom(8_000_000))
    outcome = ring.run_scenario(
        "weights-sync", params={"payload": str(payload), "rounds": 2}, results=tmp_path / "out"
    )
    assert outcome.verdict == "pass", outcome
    workers = [row for row in outcome.rows if row["role"] == "worker"]
    assert sorted((row["node"], row["round"]) for row in workers) == [
        (n, r) for n in (2, 3, 4) for r in (1, 2)
    ]
    assert {row["state"] for row in workers} == {"complete"}
    assert {row["bytes"] for row in workers} == {8_000_000}
    assert len({row["sha256"] for row in outcome.rows}) == 1
    for row in outcome.rows:
        if row["role"] == "trainer":
            assert row["bytes_sent"] <= 1.03 * row["payload_bytes"] * row["out_degree"]
    with (run_in(tmp_path / "out") / "rows.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(outcome.rows)
    document = json.loads((run_in(tmp_path / "out") / "run.json").read_text())
    assert document["verdict"] == "pass"
    assert document["params"]["payload"] == str(payload)
    assert document["versions"]["nm"]
    assert (run_in(tmp_path / "out") / "events.jsonl").stat().st_size > 0
    assert (
        "n_nodes: 4" in (run_in(tmp_path / "out") / "topology.yaml").read_text()
        or (run_in(tmp_path / "out") / "topology.yaml").stat().st_size
    )


def test_pingall_reaches_every_pair(nm: Nm, ring: Lab) -> None:
    said = nm("run", "scenario", "pingall", "-o", "json")
    assert said.code == 0, said.err
    assert said.json["verdict"] == "pass"
    assert [row["reached"] for row in said.json["rows"]] == [3, 3, 3, 3]
    assert Path(nm._cwd / said.json["results"] / "run.json").is_file()


def test_the_table_of_weights_sync(nm: Nm, ring: Lab) -> None:
    said = nm("run", "scenario", "weights-sync", "--param", "size=1 MB")
    assert said.code == 0, said.err
    assert "receivers" in said.out and "sent / payload × out-degree" in said.out
    assert said.out.count("complete") == 3


def test_a_run_brings_its_own_lab_up_and_takes_it_down(nm_home: Home, tmp_path: Path) -> None:
    nm = Nm(nm_home, tmp_path)
    said = nm("run", "scenario", "pingall", "--topology", RING, "--backend", "native", "-o", "json")
    assert said.code == 0, said.err
    assert nm("labs", "-o", "json").json == []


RAISING = """
def trainer(ctx):
    raise ValueError('no luck')

def worker(ctx):
    ctx.barrier('never')
"""


def test_a_lab_brought_up_for_a_run_goes_with_it_unless_it_is_kept(nm_home: Home, tmp_path: Path) -> None:
    nm = Nm(nm_home, tmp_path)
    words = ["run", "scenario", write_scenario(tmp_path / "mine", RAISING), "--topology", RING]
    words += ["--backend", "native"]
    said = nm(*words)
    assert (said.code, "ValueError: no luck" in said.err, "`--keep`" in said.err) == (1, True, True)
    assert nm("labs", "-o", "json").json == []
    said = nm(*words, "--keep")
    assert (said.code, "stays up" in said.err) == (1, True)
    assert nm("labs", "-o", "json").json[0]["state"] == "ready"
    assert nm("down").code == 0


def test_options_for_another_lab_than_the_one_that_is_up_are_refused(
    ring: Lab, nm: Nm, tmp_path: Path
) -> None:
    pair = tmp_path / "pair.yaml"
    pair.write_text("n_nodes: 2\nlinks:\n  - {endpoints: [1, 2]}\n")
    for option in (["--backend", "docker"], ["--topology", pair]):
        said = nm("run", "scenario", "pingall", *option, "-o", "json")
        assert (said.code, said.error["id"]) == (2, "run.lab-differs")
        assert option[0] in said.error["message"] and ring.name in said.error["message"]
        for choice in (f"leave `{option[0]}` out", "nm down -n ring", "-n NAME"):
            assert choice in said.error["hint"]
    same = ["--backend", "native", "--topology", RING]
    assert nm("run", "scenario", "pingall", *same).code == 0
    other = nm("run", "scenario", "pingall", "-n", "pair", "--topology", pair, "--backend", "native")
    assert other.code == 0, other.err
    assert [lab["lab"] for lab in nm("labs", "-o", "json").json] == ["ring"]


def test_one_s_own_scenario_with_everything_that_ctx_has(ring: Lab, tmp_path: Path) -> None:
    roles = """
import socket, subprocess

def trainer(ctx):
    assert ctx.nodes() == [1, 2, 3, 4] and ctx.nodes("worker") == [2, 3, 4]
    server = socket.create_server((ctx.address(ctx.node), 5000))
    ctx.publish("port", 5000)
    for number in ctx.rounds(2):
        seen = []
        for _ in ctx.nodes("worker"):
            connection, peer = server.accept()
            seen.append(peer[0])
            connection.close()
        ctx.barrier("round")
    ctx.report(seen=sorted(seen))
    print("trainer is done")

async def worker(ctx):
    port = await ctx.lookup_async("port", timeout=10)
    for number in ctx.rounds(2):
        socket.create_connection((ctx.address(1), port), timeout=10).close()
        await ctx.barrier_async("round", timeout=10)
    addresses = subprocess.run(["hostname", "-I"], capture_output=True, text=True).stdout.split()
    ok = len(addresses) == 2 and addresses[0] == ctx.address(ctx.node)
    ctx.report(ok=ok, greeting=ctx.params.greeting, name=ctx.name)
"""
    params = "params:\n  greeting: {type: str, default: hello, help: what is said}\n"
    folder = write_scenario(tmp_path / "mine", roles, params=params)
    outcome = ring.run_scenario(folder, params={"greeting": "salut"}, results=tmp_path / "out")
    assert outcome.verdict == "pass", outcome.failures
    rows = {row["node"]: row for row in outcome.rows}
    assert rows[1]["seen"] == ["10.0.0.2", "10.0.0.3", "10.0.0.4"]
    assert rows[2]["greeting"] == "salut" and rows[2]["name"] == "node-2" and rows[2]["round"] == 2
    assert "trainer is done" in (run_in(tmp_path / "out") / "logs" / "node-1-trainer.log").read_text()


def test_a_role_that_raises_fails_the_run_and_the_lab_stays(ring: Lab, nm: Nm, tmp_path: Path) -> None:
    roles = """
def trainer(ctx):
    ctx.barrier('never')

def worker(ctx):
    if ctx.node == 3:
        print('it was here')
        raise ValueError('no luck')
    ctx.barrier('never')
"""
    folder = write_scenario(tmp_path / "mine", roles)
    said = nm("run", "scenario", folder)
    assert said.code == 1
    assert "node 3 (worker): ValueError: no luck" in said.err
    assert 'File "roles.py", line 8, in worker' in said.err
    log = nm("logs", "3").out
    assert "info  it was here  run=mine-" in log
    assert "error  role worker failed: ValueError: no luck  run=mine-" in log
    assert 'error  |   File "roles.py", line 8, in worker  run=mine-' in log
    assert "node-3     | error  role worker failed: ValueError: no luck" in nm("logs").out
    assert ring.status().state == "ready"
    assert nm("run", "scenario", "pingall").code == 0


def test_a_check_that_fails_is_1_and_says_which_rows(ring: Lab, nm: Nm, tmp_path: Path) -> None:
    roles = "def trainer(ctx): pass\n\ndef worker(ctx): ctx.report(ok=ctx.node != 4)\n"
    said = nm("run", "scenario", write_scenario(tmp_path / "mine", roles), "-o", "json")
    assert said.code == 1
    assert said.json["verdict"] == "fail"
    assert not said.json["checks"][0]["ok"] and "node 4" in said.json["checks"][0]["detail"]


def test_a_role_that_hangs_is_ended_at_the_time_limit(ring: Lab, tmp_path: Path) -> None:
    roles = """
import time

def trainer(ctx): pass

def worker(ctx):
    ctx.barrier('x') if ctx.node == 2 else time.sleep(60)
"""
    outcome = ring.run_scenario(
        write_scenario(tmp_path / "mine", roles, timeout="1 s"), results=tmp_path / "out"
    )
    assert outcome.verdict == "error"
    assert outcome.seconds < 15
    assert "did not end within 1 s" in outcome.reason
    assert {failure.node for failure in outcome.failures} == {2, 3, 4}


def test_interrupting_a_run_stops_its_roles(ring: Lab, nm: Nm, tmp_path: Path) -> None:
    roles = """
def trainer(ctx):
    ctx.log('on')
    ctx.barrier('x')

def worker(ctx):
    import subprocess
    subprocess.run(['sleep', '600'])
"""
    out = tmp_path / "out"
    run = nm.start("run", "scenario", write_scenario(tmp_path / "mine", roles), "--results", out)
    deadline = threading.Event()
    for _ in range(1000):
        events = run_in(out) / "events.jsonl"
        if events.exists() and "role_started" in events.read_text():
            break
        deadline.wait(0.02)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=30)
    assert run.returncode == 130, err
    assert json.loads((run_in(out) / "run.json").read_text())["verdict"] == "error"
    assert nm("run", "scenario", "pingall").code == 0


def test_a_killed_controller_in_the_middle_of_a_run(ring: Lab, nm: Nm, home: Home, tmp_path: Path) -> None:
    """The transfer goes on while the controller is away; `up` brings it back and the run ends well."""
    killed = threading.Event()

    def kill_and_repair(event: object) -> None:
        if getattr(event, "kind", "") == "barrier" and not killed.is_set():
            killed.set()
            note = state.read(home.lab("ring"))
            assert note is not None
            send_signal(note.parts["controller"], signal.SIGKILL)
            threading.Thread(target=lambda: nm("up", RING)).start()

    outcome = ring.run_scenario(
        "weights-sync",
        params={"size": "200 MB", "rounds": 2},
        results=tmp_path / "out",
        on_event=kill_and_repair,
    )
    assert killed.is_set()
    assert outcome.verdict == "pass", (outcome.reason, outcome.failures)
    assert len(outcome.rows) == 8


@pytest.mark.parametrize(
    ("payload", "words"),
    [("missing.bin", "there is no such file"), ("empty.bin", "the file is empty"), (".", "that is a folder")],
)
def test_a_payload_that_cannot_be_sent(ring: Lab, tmp_path: Path, payload: str, words: str) -> None:
    (tmp_path / "empty.bin").write_bytes(b"")
    with pytest.raises(ScenarioInvalid) as caught:
        ring.run_scenario("weights-sync", params={"payload": str(tmp_path / payload)})
    assert words in caught.value.render()


def test_each_run_has_a_folder_of_its_own_in_the_results_folder(ring: Lab, nm: Nm, tmp_path: Path) -> None:
    out = tmp_path / "out"
    at_once = [nm.start("run", "scenario", "pingall", "--results", out, "-o", "json") for _ in range(2)]
    shown = [json.loads(process.communicate(timeout=60)[0]) for process in at_once]
    shown += [
        nm("run", "scenario", name, "--results", out, "-o", "json").json
        for name in ("pingall", "unicast-echo")
    ]
    outcome = ring.run_scenario("pingall", results=out)
    names = [Path(str(each["results"])) for each in shown] + [Path(outcome.results)]
    assert sorted(out.iterdir()) == sorted(names) and len(names) == 5
    for folder, run in zip(names, [*(each["run"] for each in shown), outcome.run], strict=True):
        document = json.loads((folder / "run.json").read_text())
        assert (document["run"], document["verdict"]) == (run, "pass")
        assert folder.name.endswith(run)


def test_results_that_cannot_be_written_are_said_before_the_run(ring: Lab, nm: Nm, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = nm("run", "scenario", "pingall", "--results", tmp_path / "file", "-o", "json")
    assert said.code == 4
    assert said.error["id"] == "results.unwritable"


@pytest.mark.parametrize("scenario", ["unicast-echo", "multicast-flow"])
def test_the_other_shipped_scenarios(ring: Lab, tmp_path: Path, scenario: str) -> None:
    outcome = ring.run_scenario(scenario, results=tmp_path / "out")
    assert outcome.verdict == "pass", (outcome.reason, outcome.failures, outcome.checks)


def test_a_new_scenario_runs_as_it_is_written(ring: Lab, nm: Nm, tmp_path: Path) -> None:
    assert nm("new", "scenario", "hello").code == 0
    for words in ([], ["--param", "greeting=hi"]):
        said = nm("run", "scenario", "./hello", *words, "-o", "json")
        assert said.code == 0, said.err
        assert said.json["verdict"] == "pass"


ECHO = """
import os, resource, runpy, sys

hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
many = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
with runpy.run_path(sys.argv[1])["Echo"](56) as echo:
    print(sorted(echo.run(["127.0.0.1", "127.0.0.2"], 5.0)))
"""


def test_pingall_works_in_a_process_with_thousands_of_open_files() -> None:
    roles = resources.path("scenarios") / "pingall" / "roles.py"
    command = [sys.executable, "-c", ECHO, str(roles)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "[0, 1]\n"
