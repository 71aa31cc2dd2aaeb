"""Test a program of the user's own as external node: start, leave, die, return."""

from __future__ import annotations

import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from orchestrator.lab import Lab
from orchestrator.testing.plugin import Labs
from tests.integration.conftest import ROOT, Nm

PROGRAM = """
import sys
import nextmini_py as nm

with nm.Dataplane(sys.argv[1]) as dataplane:
    assert dataplane.wait_for_topology_ready(timeout_ms=20_000)
    receiver = dataplane.register_receiver_from_node(src_node_id=1, src_port=40000, dst_port=50000)
    print("ready", flush=True)
    delivery = receiver.recv(timeout_ms=30_000)
    print(delivery.payload.decode(), flush=True)
"""

SENDER = """
def sender(ctx):
    import nextmini_py as nm
    ctx.dataplane.send_to_node(3, nm.PacketView(b"hello program"), src_port=40000, dst_port=50000)
"""

SCENARIO = "name: send\nsummary: one message\nroles:\n  sender: {nodes: 1}\nchecks: []\ntimeout: 20 s\n"


@pytest.fixture
def lab(labs: Labs, tmp_path: Path) -> Lab:
    folder = tmp_path / "send"
    folder.mkdir()
    (folder / "scenario.yaml").write_text(SCENARIO)
    (folder / "roles.py").write_text(SENDER)
    return labs.up("name: line\ntopology: {type: line, n_nodes: 3}\nnodes:\n  3: {external: true}\n")


def start_program(lab: Lab, tmp_path: Path) -> subprocess.Popen[str]:
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(lab.node(3).config)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
    return program


def external_state(lab: Lab) -> tuple[str, str]:
    seen = lab.status()
    link = next(link for link in seen.links if (link.a, link.b) == (2, 3))
    return seen.nodes[2].state, link.state


def wait_for_state(lab: Lab, wanted: tuple[str, str], limit_s: float = 20) -> None:
    deadline = time.monotonic() + limit_s
    while external_state(lab) != wanted:
        assert time.monotonic() < deadline, external_state(lab)
        time.sleep(0.05)


def test_an_external_node_joins_leaves_and_joins_again(lab: Lab, tmp_path: Path) -> None:
    assert external_state(lab) == ("vacant", "down")
    for _ in range(2):
        program = start_program(lab, tmp_path)
        wait_for_state(lab, ("ready", "up"))
        outcome = lab.run_scenario(tmp_path / "send", results=tmp_path / "out")
        assert outcome.verdict != "error", outcome.reason
        out, _ = program.communicate(timeout=20)
        assert out == "hello program\n"
        wait_for_state(lab, ("vacant", "down"))
    assert lab.status().state == "ready"


def test_a_program_that_is_killed_may_come_back(lab: Lab, tmp_path: Path) -> None:
    program = start_program(lab, tmp_path)
    wait_for_state(lab, ("ready", "up"))
    program.kill()
    program.communicate()
    wait_for_state(lab, ("vacant", "down"))
    assert lab.status().state == "ready"
    start_program(lab, tmp_path).kill()


REFUSED = """
import sys
import nextmini_py as nm

try:
    nm.Dataplane(sys.argv[1])
except nm.TokenRefused as error:
    print(error.id, flush=True)
"""

SITTER = """
import sys
import nextmini_py as nm

with nm.Dataplane(sys.argv[1]):
    sys.stdin.read()
"""


def test_an_external_node_needs_its_own_token(labs: Labs, nm: Nm, tmp_path: Path) -> None:
    file = tmp_path / "line.yaml"
    file.write_text("name: externals\ntopology: {type: line, n_nodes: 3}\n")
    up = nm("up", file, "--backend", "native", "--external", "2", "--external", "3")
    assert up.code == 0, up.err
    lab = Lab.attach("externals", home=labs.home)
    texts = {node: lab.node(node).config.read_text() for node in (2, 3)}
    tokens = {node: tomllib.loads(text)["controller_token"] for node, text in texts.items()}
    assert tokens[2] != tokens[3]
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(texts[3].replace(tokens[3], tokens[2]))
    wrong.chmod(0o600)
    said = subprocess.run(
        [sys.executable, "-c", REFUSED, wrong],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        timeout=60,
        check=False,
    )
    assert said.stdout == "control.token\n", said.stderr
    assert external_state(lab) == ("vacant", "down")
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", SITTER, str(lab.node(node).config)],
            stdin=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        )
        for node in (2, 3)
    ]
    wait_for_state(lab, ("ready", "up"))
    for program in programs:
        program.communicate(timeout=20)
    wait_for_state(lab, ("vacant", "down"))
