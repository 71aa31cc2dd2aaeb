"""Test that a program in a node starts as from a login shell."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.clock import SystemClock
from orchestrator.deploy import state
from orchestrator.deploy.home import Home
from orchestrator.errors import StartFailed, UsageError
from orchestrator.lab import Lab
from orchestrator.testing.plugin import Labs
from tests.integration.conftest import ROOT, Nm
from tests.integration.started import CLEAN, HOSTILE, descriptors, hostile, signals, write_scenario

PAIR = """
name: starting
topology: {type: line, n_nodes: 3}
defaults: {link: {rate: 1 Gbit, delay: 50 ms}}
nodes:
  1: {name: web_server, sysctls: {net.ipv4.tcp_congestion_control: reno, net.ipv4.conf.default.rp_filter: 1}}
  3: {external: true}
"""

NAMES = "name: names\nsummary: a test\nroles:\n  worker: {nodes: all}\nchecks: []\ntimeout: 30 s\n"


@pytest.fixture(scope="module")
def lab(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One lab for all of them, brought up by a starter from which nothing good is inherited."""
    file = tmp_path_factory.mktemp("file") / "starting.yaml"
    file.write_text(PAIR)
    up = hostile(home, ["up", str(file), "--backend", "native"])
    assert up.returncode == 0, up.stderr
    lab = Lab.attach("starting", home=home)
    yield lab
    lab.down()


@pytest.mark.parametrize("nodes", ["1", "1,2"])
def test_exec_from_a_starter_that_ignores_and_blocks_signals(home: Home, lab: Lab, nodes: str) -> None:
    status = hostile(home, ["exec", nodes, "--", "cat", "/proc/self/status"])
    text = (
        status.stdout
        if nodes == "1"
        else "\n".join(
            line.partition(" | ")[2] for line in status.stdout.splitlines() if line.startswith("node-2")
        )
    )
    assert signals(text) == CLEAN, status.stderr
    assert "Umask:\t0027" in text
    assert hostile(home, ["exec", nodes, "--", "sh", "-c", "ulimit -n"]).stdout.split()[-1] == "512"
    assert hostile(home, ["exec", "1", "--", "sh", "-c", "yes | head -1"]).stderr == ""


@pytest.mark.parametrize("role", ["controller", "host"])
def test_a_process_of_the_lab_blocks_no_signal(home: Home, lab: Lab, role: str) -> None:
    """`nm down` asks it to end with SIGTERM, and waits."""
    note = state.read(home.lab("starting"))
    assert note is not None
    assert signals(Path(f"/proc/{note.parts[role].pid}/status").read_text())["SigBlk"] == 0


def test_exec_has_the_descriptors_that_its_caller_gave_and_no_others(
    home: Home, lab: Lab, tmp_path: Path
) -> None:
    with (tmp_path / "given").open("w") as given:
        number = fcntl.fcntl(given, fcntl.F_DUPFD, 100)
    try:
        kept = hostile(home, ["exec", "1", "--", "ls", "/proc/self/fd"], keep=(number,))
        plain = hostile(home, ["exec", "1", "--", "ls", "/proc/self/fd"])
        both = hostile(home, ["exec", "1,2", "--timeout", "60", "--", "ls", "/proc/self/fd"], keep=(number,))
    finally:
        os.close(number)
    assert descriptors(kept.stdout) == [0, 1, 2, number]
    assert descriptors(plain.stdout) == [0, 1, 2]
    seen = [line.partition(" | ")[2] for line in both.stdout.splitlines() if line.startswith("web_server")]
    assert descriptors(" ".join(seen)) == [0, 1, 2]


def test_a_shell_starts_with_nothing_ignored(home: Home, lab: Lab) -> None:
    said = hostile(home, ["shell", "1"], stdin="cat /proc/self/status; ulimit -c\n")
    assert signals(said.stdout) == CLEAN, said.stderr
    assert said.stdout.split()[-1] in ("4", "8"), "4096 bytes, in blocks"


def test_the_sdk_in_a_thread_that_blocks_signals(home: Home, lab: Lab) -> None:
    program = (
        "from orchestrator import Lab\nlab = Lab.attach('starting')\n"
        "print(lab.node(1).run('cat /proc/self/status').stdout, lab.node(1).run('ls /proc/self/fd').stdout)"
    )
    said = subprocess.run(
        [sys.executable, "-c", HOSTILE + program],
        capture_output=True,
        text=True,
        env={**os.environ, "NM_HOME": str(home.path), "PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    status, _, numbers = said.stdout.rpartition("ctxt_switches")
    assert signals(status) == CLEAN, said.stderr
    assert descriptors(" ".join(numbers.split()[-4:])) == [0, 1, 2]


def test_what_a_role_starts_by_any_call(lab: Lab, tmp_path: Path) -> None:
    outcome = lab.run_scenario(write_scenario(tmp_path / "starts"))
    assert outcome.verdict == "pass", outcome.failures
    assert len(outcome.rows) == 5
    for row in outcome.rows:
        assert signals(row["status"]) == CLEAN, row["way"]
        assert descriptors(row["fds"]) == [0, 1, 2], row["way"]


def test_a_program_that_is_not_there_is_127_with_the_package_that_has_it(
    home: Home, lab: Lab, tmp_path: Path
) -> None:
    nm = Nm(home, tmp_path)
    missing = nm("exec", "1", "--", "nosuch")
    assert (missing.code, missing.err) == (127, "nosuch: not found in node 1\n")
    known = nm("exec", "2", "--", "env", "PATH=/nowhere", "true")
    assert known.code == 127, "what `env` says is its own"
    found = lab.node(2).run(["/nowhere/ping", "-c", "1"])
    assert found.exit_code == 127
    assert "/nowhere/ping: not found in node 2\n" in found.stderr
    assert "package iputils-ping" in found.stderr
    both = nm("exec", "1,2", "--", "nosuch")
    assert both.code == 127
    assert sorted(both.err.splitlines()) == [
        "node-2     | nosuch: not found in node 2",
        "web_server | nosuch: not found in node 1",
    ]


def test_what_is_no_program_is_126(home: Home, lab: Lab, tmp_path: Path) -> None:
    nm = Nm(home, tmp_path)
    file = tmp_path / "data"
    file.write_text("data")
    for name in (str(file), str(tmp_path)):
        said = nm("exec", "1", "--", name)
        assert (said.code, said.err) == (126, f"{name}: not executable in node 1\n")


def test_words_of_a_command_reach_it_as_they_are(lab: Lab) -> None:
    words = ["a b", "$HOME", "*", "", "'", '"', "-n", "é\n"]
    said = lab.node(1).run(["printf", "%s|", *words])
    assert said.stdout == "|".join([*words, ""])


@pytest.mark.parametrize(
    "words", [["exec", "3", "--", "true"], ["exec", "1,3", "--", "true"], ["shell", "3"], ["logs", "3"]]
)
def test_an_external_node_is_said_to_be_one(home: Home, lab: Lab, tmp_path: Path, words: list[str]) -> None:
    said = Nm(home, tmp_path)(*words)
    assert (said.code, "node 3 of lab starting is external" in said.err) == (2, True), said.err


def test_exec_in_all_says_whom_it_leaves_out(home: Home, lab: Lab, tmp_path: Path) -> None:
    said = Nm(home, tmp_path)("exec", "all", "--", "echo", "here")
    assert (said.code, sorted(said.out.splitlines())) == (0, ["node-2     | here", "web_server | here"])
    assert said.err == "left out, because nm runs nothing in an external node: 3\n"
    with pytest.raises(UsageError, match="external"):
        lab.node(3).run("true")


def test_a_time_limit_that_ends_a_command_is_said(home: Home, lab: Lab, tmp_path: Path) -> None:
    nm = Nm(home, tmp_path)
    ended = nm("exec", "1", "--timeout", "0.5", "--", "sleep", "60")
    assert (ended.code, ended.err) == (124, "the command took longer than 0.5 s\n")
    refused = nm("exec", "1", "--timeout", "0", "--", "true")
    assert refused.code == 2
    assert refused.err.startswith("the time limit of the command is 0 s")


def test_every_node_has_a_host_name_of_its_own_that_resolves(home: Home, lab: Lab, tmp_path: Path) -> None:
    script = "hostname; getent ahosts $(hostname)"
    seen = [node.stdout.split() for node in lab.run_in_all(["sh", "-c", script])]
    assert [words[:2] for words in seen] == [["web-server", "10.0.0.1"], ["node-2", "10.0.0.2"]]
    assert hostile(home, ["exec", "2", "--", "hostname"]).stdout == "node-2\n"
    assert hostile(home, ["shell", "1"], stdin="hostname\n").stdout == "web-server\n"
    assert lab.node(1).run("hostname other").ok
    assert lab.node(1).run("hostname").stdout == "other\n", "it is the node's, not the command's"
    assert lab.node(1).run("hostname web-server").ok
    folder = tmp_path / "names"
    folder.mkdir()
    (folder / "scenario.yaml").write_text(NAMES)
    (folder / "roles.py").write_text(
        "import os, socket\ndef worker(ctx):\n"
        "    ctx.report(own=socket.gethostname(), child=os.popen('hostname').read().strip())\n"
    )
    rows = {row["node"]: (row["own"], row["child"]) for row in lab.run_scenario(folder).rows}
    assert rows == {1: ("web-server", "web-server"), 2: ("node-2", "node-2")}
    assert socket.gethostname() not in ("web-server", "node-2", "other")


def test_kernel_settings_of_the_file_and_buffers_that_fit_the_links(
    home: Home, lab: Lab, tmp_path: Path
) -> None:
    def setting(node: int, name: str) -> str:
        return lab.node(node).run(["cat", f"/proc/sys/{name.replace('.', '/')}"]).stdout.strip()

    machine = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    assert setting(1, "net.ipv4.tcp_congestion_control") == "reno"
    assert setting(2, "net.ipv4.tcp_congestion_control") == machine
    assert setting(1, "net.ipv4.conf.utun.rp_filter") == "1", "it was made before the interface"
    for name in ("net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"):
        usual = int(Path("/proc/sys", *name.split(".")).read_text().split()[-1])
        assert int(setting(2, name).split()[-1]) == max(usual, 64 * 1024 * 1024)
    details = Nm(home, tmp_path)("inspect", "-o", "json").json
    assert details["tcp_buffers"]["net.ipv4.tcp_rmem"] == "4096 131072 67108864"
    assert details["nodes"][0]["sysctls"]["net.ipv4.tcp_congestion_control"] == "reno"


def test_a_setting_that_the_kernel_refuses_is_named(labs: Labs) -> None:
    with pytest.raises(StartFailed) as refused:
        labs.up("n_nodes: 1\nname: refused\nnodes: {1: {sysctls: {net.ipv4.tcp_congestion_control: nosuch}}}")
    assert "net.ipv4.tcp_congestion_control = nosuch" in refused.value.render()


def test_a_link_that_a_node_refuses_fails_the_start_with_its_reason_at_once(
    labs: Labs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here and in the controller a gap without reordering passes; the packet engine refuses it."""
    pass_gaps = "from orchestrator.impairment import checks\nchecks._check_gap = lambda spec: None\n"
    (tmp_path / "sitecustomize.py").write_text(pass_gaps)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("orchestrator.impairment.checks._check_gap", lambda spec: None)
    clock = SystemClock()
    began = clock.monotonic()
    with pytest.raises(StartFailed) as failed:
        labs.up("n_nodes: 2\nname: gap\nlinks: [{endpoints: [1, 2], reorder: {share: 0 %, gap: 3}}]")
    assert "AddNode was refused: " in failed.value.render()
    assert "a reorder gap of 3 needs a share of packets to reorder" in failed.value.render()
    assert clock.monotonic() - began < 20, "the limit of a start is a minute"


def test_what_a_scenario_needs_is_looked_for_before_its_run(home: Home, lab: Lab, tmp_path: Path) -> None:
    folder = write_scenario(tmp_path / "starts")
    file = folder / "scenario.yaml"
    needs = "needs: {python: [json, nosuch_module], programs: [sh, nosuch-program]}\n"
    file.write_text(needs + file.read_text())
    said = Nm(home, tmp_path)("run", "scenario", folder)
    assert said.code == 4
    assert "needs the Python module nosuch_module and the program nosuch-program, which the nodes" in said.err
    assert "-m pip install nosuch_module && apt-get install nosuch-program`" in said.err
    assert not (tmp_path / "results").exists()
    file.write_text(file.read_text().replace(", nosuch_module", "").replace(", nosuch-program", ""))
    assert lab.run_scenario(folder).verdict == "pass"
