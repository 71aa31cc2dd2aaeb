"""Test what nodes cannot read or reach, and name conflicts."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator import __version__
from orchestrator.deploy import state as notes
from orchestrator.deploy.docker import DockerHost
from orchestrator.deploy.docker.engine import Engine
from orchestrator.deploy.home import Home
from orchestrator.errors import NmError
from orchestrator.lab import Lab
from orchestrator.settings import load_controller, load_node
from orchestrator.testing.leftovers import leftovers
from orchestrator.testing.plugin import Labs
from tests.capture.pcap import read
from tests.integration.conftest import shared_lab

PAIR = "name: pair\ntopology: {type: line, n_nodes: 2}\n"
TAKEN = PAIR.replace("pair", "taken")

CONNECT = """
import socket, sys
for host, port in (("postgres", 5432), ("controller", 5432), (sys.argv[1], 5432)):
    try:
        socket.create_connection((host, port), 2).close()
        print("open", host, port)
    except OSError:
        pass
"""

SNOOP = """
cat /etc/nm/* /etc/nm/node-1.toml /etc/nm/node-2.toml
for p in /proc/[0-9]*; do cat $p/environ $p/cmdline $p/fd/3 $p/mem; done
env; cat /proc/mounts; find / -xdev -name '*.toml' -exec cat {} +
"""


lab = shared_lab(PAIR, backend="docker", timeout=180)


def secrets_of(lab: Lab) -> set[str]:
    """Every secret of a lab."""
    run = Path(lab.node(1).config).parent
    controller = load_controller(run / "controller.toml")
    tokens = {load_node(run / f"node-{n}.toml").controller_token for n in (1, 2)}
    found = tokens | {controller.node_key, controller.operator_token, controller.db.password}
    assert all(len(secret) > 20 for secret in found)
    return found


@pytest.mark.parametrize("user", [None, "root", "user", "4321"])
def test_no_program_in_a_node_reads_a_secret(lab: Lab, user: str | None) -> None:
    done = lab.node(1).run(["sh", "-c", SNOOP], user=user, timeout=60)
    said = done.stdout + done.stderr
    assert "Permission denied" in said
    assert not [secret for secret in secrets_of(lab) if secret in said]


def test_a_program_in_a_node_has_no_right_but_to_its_network(lab: Lab) -> None:
    status = lab.node(1).run(["cat", "/proc/self/status"], timeout=60).stdout
    held = {line.split(":")[0]: int(line.split()[1], 16) for line in status.splitlines() if "Cap" in line}
    net_admin = 1 << 12
    assert held == {
        "CapInh": 0,
        "CapPrm": net_admin,
        "CapEff": net_admin,
        "CapBnd": net_admin,
        "CapAmb": 0,
    }


def test_an_engine_that_is_asked_tells_no_secret(lab: Lab) -> None:
    names = ["nm-pair-postgres", "nm-pair-controller", "nm-pair-node-1", "nm-pair-node-2"]

    def look(client: Any) -> str:
        facts = [client.containers.get(name).attrs for name in names]
        tops = [client.containers.get(name).top(ps_args="-eo pid,args") for name in names]
        return json.dumps([facts, tops, client.api.volumes(), client.api.networks()])

    told = Engine().ask_now(look)
    assert not [secret for secret in secrets_of(lab) if secret in told]


def test_a_node_mounts_nothing_of_another_nodes(lab: Lab) -> None:
    mounts = Engine().ask_now(lambda client: client.containers.get("nm-pair-node-1").attrs["Mounts"])
    assert {each["Destination"] for each in mounts} == {
        "/etc/nm/node-1.toml",
        "/etc/hosts",
        "/share",
        "/links",
    }


def test_nodes_do_not_reach_postgres(lab: Lab) -> None:
    facts = Engine().ask_now(lambda client: client.containers.get("nm-pair-controller").attrs)
    [network] = facts["NetworkSettings"]["Networks"].values()
    done = lab.node(1).run(["python3", "-c", CONNECT, network["IPAddress"]], timeout=60)
    assert done.ok and done.stdout == "", done.stdout + done.stderr
    networks = Engine().ask_now(lambda client: client.containers.get("nm-pair-postgres").attrs)
    assert set(networks["NetworkSettings"]["Networks"]) == {"none"}


def test_nothing_leaves_a_lab_without_an_uplink(lab: Lab) -> None:
    """A node has no route to an address that is neither the lab's nor that of its containers' network."""
    answer = lab.node(1).run(["ip", "route", "get", "203.0.113.9"], timeout=60)
    assert not answer.ok and "Network is unreachable" in answer.stderr


@pytest.mark.parametrize("user", [None, "user"])
@pytest.mark.parametrize(
    "script",
    [
        "setsid sleep 97 & sleep 97",
        "(setsid sleep 97 &); sleep 97",
        "env -i setsid sleep 97 & trap '' TERM; while :; do sleep 97; done",
    ],
)
def test_a_command_that_is_ended_leaves_nothing_in_its_container(
    lab: Lab, script: str, user: str | None
) -> None:
    directory = Home(Path(lab.node(1).config).parents[3]).lab("pair")
    note = notes.read(directory)
    assert note is not None
    host, tag = DockerHost(), f"tag-{time.monotonic_ns()}"
    other = f"other-{tag}"
    bystander = subprocess.Popen(host.command(directory, note, 1, ["sleep", "89"], tag=other, user=user))
    command = host.command(directory, note, 1, ["sh", "-c", script], tag=tag, user=user)
    with subprocess.Popen(command) as process:
        until(lambda: "sleep 97" in running(lab) and "sleep 89" in running(lab))
        assert asyncio.run(host.end_command(directory, note, 1, tag, user=user)) == []
        process.wait(30)
    assert "sleep 97" not in running(lab)
    assert "sleep 89" in running(lab)
    assert asyncio.run(host.end_command(directory, note, 1, other, user=user)) == []
    bystander.wait(30)
    assert "sleep 89" not in running(lab)


def test_a_server_that_a_command_left_in_the_background_stays(lab: Lab) -> None:
    assert lab.node(1).run(["sh", "-c", "sleep 83 >/dev/null 2>&1 </dev/null &"], timeout=60).ok
    assert "sleep 83" in running(lab)


def running(lab: Lab) -> str:
    """The command lines of all processes of node 1 that have not ended."""
    script = 'for p in /proc/[0-9]*; do tr "\\0" " " <$p/cmdline; echo; done 2>/dev/null'
    lines = lab.node(1).run(["sh", "-c", script], timeout=60).stdout.splitlines()
    return "\n".join(line for line in lines if line.startswith("sleep"))


def until(condition: Callable[[], bool], limit_s: float = 60) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


NAMES = [
    ("volume", "nm-taken-postgres"),
    ("volume", "nm-taken-links"),
    ("volume", "nm-taken-socket"),
    ("network", "nm-taken"),
    ("container", "nm-taken-node-2"),
]


@pytest.mark.parametrize("labels", [{}, {"nm.lab": "taken", "nm.home": "/somebody/else", "nm.run": "1"}])
@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_a_name_that_somebody_else_has_is_refused_before_anything_starts(
    labs: Labs, kind: str, name: str, labels: dict[str, str]
) -> None:
    make(kind, name, labels)
    try:
        with pytest.raises(NmError) as caught:
            labs.up(TAKEN, backend="docker")
        assert caught.value.id == "docker.name-taken"
        assert f"{kind} {name}" in caught.value.message
        assert leftovers(labs.home, engine=True) == []
        subprocess.run(["docker", kind, "inspect", name], check=True, capture_output=True, timeout=60)
    finally:
        subprocess.run(["docker", kind, "rm", name], check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize(
    ("kind", "name"), [("volume", "nm-taken-postgres"), ("container", "nm-taken-node-9")]
)
def test_what_an_earlier_run_left_without_a_note_is_removed(labs: Labs, kind: str, name: str) -> None:
    make(kind, name, {"nm.lab": "taken", "nm.home": str(labs.home.path), "nm.run": "earlier"})
    lab = labs.up(TAKEN, backend="docker")
    assert lab.status().state == "ready"
    lab.down()
    assert leftovers(labs.home, engine=True) == []


def make(kind: str, name: str, labels: dict[str, str]) -> None:
    words = [f"--label={key}={value}" for key, value in labels.items()]
    if kind == "container":
        command = ["docker", "create", f"--name={name}", *words, f"nm-node:{__version__}"]
    else:
        command = ["docker", kind, "create", *words, name]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


ASK = """
import socket
socket.socket(socket.AF_UNIX).connect("/run/nm/captures.sock")
"""


def test_a_link_between_containers_is_captured_in_one_file_and_only_root_may_ask(
    lab: Lab, tmp_path: Path
) -> None:
    with lab.capture(tmp_path / "link.pcapng", link=(1, 2)):
        lab.node(1).run(["ping", "-c", "3", "-i", "0.2", "node-2"])
    file = read(tmp_path / "link.pcapng")
    assert [file.count(f"{way} after") for way in ("node-1>node-2", "node-2>node-1")] == [3, 3]
    asked = lab.node(1).run(["python3", "-c", ASK], user="user")
    assert asked.exit_code == 1
    assert "PermissionError" in asked.stderr
