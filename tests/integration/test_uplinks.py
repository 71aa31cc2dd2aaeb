"""Test ways out of a lab: `uplink` in the topology file.

The outside is two machines of the test's own: a gateway, whose network namespace is that of the uplinks, and
a server behind it. Nothing leaves them.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator import procfs
from orchestrator.deploy import processes, state
from orchestrator.deploy.home import Home
from orchestrator.errors import NmError
from orchestrator.lab import Lab
from orchestrator.procfs import ProcessId
from orchestrator.testing.plugin import Labs
from tests.integration.conftest import Nm
from tests.integration.machines import Machine, machine, named
from tests.integration.services import need
from tests.integration.unprivileged import World
from tests.integration.waiting import until

NAMESPACE = f"nm-test-{os.getpid()}"
TOPOLOGY = f"""\
name: ways
topology: {{type: line, n_nodes: 6}}
defaults: {{link: {{delay: 1 ms}}}}
nodes:
  1: {{uplink: {{namespace: {NAMESPACE}}}}}
  6: {{uplink: {{namespace: {NAMESPACE}}}}}
"""
FILE = random.Random("the outside").randbytes(3_000_000)
SHA256 = hashlib.sha256(FILE).hexdigest()
LIMIT_S = 30.0
URL = "http://203.0.113.9:8000/file"
OWN_URL = "http://203.0.113.1:8000/file"


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """The gateway 203.0.113.1; both it and the server 203.0.113.9 behind it serve the file."""
    need("curl", "nft", "pasta")
    folder = tmp_path_factory.mktemp("served")
    (folder / "file").write_bytes(FILE)
    with ExitStack() as stack:
        gateway, server = stack.enter_context(machine()), stack.enter_context(machine())
        gateway.run("ip", "link", "add", "ext0", "type", "veth", "peer", "name", "eth0", "netns", server.pid)
        for made, device, address in (
            (gateway, "ext0", "203.0.113.1/24"),
            (server, "eth0", "203.0.113.9/24"),
        ):
            made.run("ip", "address", "add", address, "dev", device)
            made.run("ip", "link", "set", device, "up")
        gateway.run("ip", "route", "add", "default", "via", "203.0.113.9")
        stack.enter_context(server.serving(folder, "203.0.113.9", 8000))
        stack.enter_context(gateway.serving(folder, "0.0.0.0", 8000))
        stack.enter_context(named(gateway, NAMESPACE))
        yield gateway


@pytest.fixture(scope="module")
def lab(home: Home, outside: Machine) -> Iterator[Lab]:
    labs = Labs(home)
    try:
        yield labs.up(TOPOLOGY)
    finally:
        labs.end()


def fetch(lab: Lab, node: int, url: str = URL) -> str:
    """Return the digest of what a node fetches; that of nothing where it fails."""
    command = f"curl -sS --fail --max-time 5 {url} | sha256sum"
    return lab.node(node).run(["sh", "-c", command], timeout=LIMIT_S).stdout.split()[0]


def way(lab: Lab, node: int) -> list[str]:
    """The addresses of the nodes that a packet of a node crosses on its way out."""
    traced = lab.node(node).run(["traceroute", "-n", "-q", "1", "-w", "2", "-m", "4", "203.0.113.9"])
    return [line.split()[1] for line in traced.stdout.splitlines()[1:] if "10.0.0." in line]


def pastas() -> set[ProcessId]:
    """The processes of the lab that carry packets to the outside."""
    found = (procfs.identify(pid) for pid in procfs.pids() if procfs.command(pid)[:1] == ["pasta"])
    label = f"{processes.LAB_LABEL}=ways"
    return {each for each in found if each is not None and procfs.environment(each.pid, label)}


def test_every_node_reaches_the_server_through_the_emulated_links(lab: Lab) -> None:
    assert {node: fetch(lab, node) for node in (1, 3, 4, 6)} == dict.fromkeys((1, 3, 4, 6), SHA256)
    need("traceroute")
    assert way(lab, 3) == ["10.0.0.2", "10.0.0.1"]
    assert way(lab, 4) == ["10.0.0.5", "10.0.0.6"]


def test_the_machine_itself_is_not_reached_and_nobody_comes_in(lab: Lab, outside: Machine) -> None:
    nothing = hashlib.sha256(b"").hexdigest()
    for node in (1, 3):
        assert fetch(lab, node, OWN_URL) == nothing
        refused = lab.node(node).run(
            ["curl", "-sS", "--max-time", "5", "http://169.254.169.254/"], timeout=LIMIT_S
        )
        assert not refused.ok
    assert "10.0.0" not in outside.run("ip", "route")
    assert "10.0.0" not in outside.run("ss", "-Htan")


def test_the_lab_shows_its_uplinks(lab: Lab, home: Home) -> None:
    nm = Nm(home, home.path)
    wanted = [True, False, False, False, False, True]
    assert [node["uplink"] for node in nm("inspect", "-n", "ways", "-o", "json").json["nodes"]] == wanted
    assert [line.split()[-2] for line in nm("status", "-n", "ways").out.splitlines()[2:8:5]] == ["uplink"] * 2


def test_an_uplink_that_ends_is_started_again(lab: Lab) -> None:
    before = pastas()
    assert len(before) == 2
    for each in before:
        procfs.send_signal(each, signal.SIGKILL)
    until(lambda: len(pastas() - before) == 2, LIMIT_S)
    until(lambda: fetch(lab, 3) == SHA256, LIMIT_S)


def test_nodes_take_the_other_uplink_when_theirs_is_stopped(lab: Lab) -> None:
    """From node 2 that is one over three relays."""
    lab.node(1).stop()
    until(lambda: fetch(lab, 2) == SHA256, LIMIT_S)
    assert way(lab, 2) == ["10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]
    lab.node(1).start()
    until(lambda: way(lab, 3) == ["10.0.0.2", "10.0.0.1"], LIMIT_S)


def test_nothing_of_an_uplink_survives_its_host_process(lab: Lab, home: Home) -> None:
    """The host process is started again, and with it the uplinks."""
    before = pastas()
    note = state.read(home.lab("ways"))
    assert note is not None
    procfs.send_signal(note.parts["host"], signal.SIGKILL)
    assert procfs.wait_gone(before, LIMIT_S) == []
    until(lambda: len(pastas()) == 2, LIMIT_S)
    until(lambda: fetch(lab, 4) == SHA256, LIMIT_S)


MAX_MODE = f"""\
name: maxways
topology: {{type: line, n_nodes: 5}}
defaults: {{node: {{operating_mode: max}}}}
nodes:
  5: {{uplink: {{namespace: {NAMESPACE}}}}}
"""


def test_max_mode_carries_curl_through_three_relays_to_a_server_outside(outside: Machine, labs: Labs) -> None:
    """By SOCKS5 and redirected; the last node of the lab connects to the server."""
    lab = labs.up(MAX_MODE)
    for option in ("--socks5-hostname 127.0.0.1:8081", ""):
        command = f"curl -sS --fail --max-time 20 {option} {URL} | sha256sum"
        assert lab.node(1).run(["sh", "-c", command], timeout=LIMIT_S).stdout.split()[0] == SHA256
    until(lambda: [each.state for each in lab.flows.list_max()] == ["finished"] * 2, LIMIT_S)
    assert {flow.entry: flow.route for flow in lab.flows.list_max()} == {
        "socks5": (1, 2, 3, 4, 5),
        "redirected": (1, 2, 3, 4, 5),
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another user")
def test_a_lab_of_an_ordinary_user_has_a_way_out(outside: Machine) -> None:
    with World() as world:
        user = replace(world.named, network=outside.pid)
        user.look(user.folder / "w.yaml").write_text(
            "name: w\ntopology: {type: line, n_nodes: 3}\nnodes: {1: {uplink: true}}\n"
        )
        closed = user.nm("up", "w.yaml", "--backend", "native")
        if Path("/dev/net/tun").stat().st_mode & 0o006 != 0o006:
            assert closed.code != 0 and "`pasta` opens /dev/net/tun" in closed.err
            world.open_tun()
            assert user.nm("up", "w.yaml", "--backend", "native").code == 0
        fetched = user.nm("exec", "3", "--", "sh", "-c", f"curl -sS --max-time 5 {URL} | sha256sum")
        assert fetched.out.split()[0] == SHA256, fetched.err
        assert user.nm("exec", "3", "--", "curl", "-sS", "--max-time", "5", OWN_URL).code != 0
        assert user.nm("down").code == 0
        until(lambda: user.processes() == [], LIMIT_S)


def test_a_namespace_that_is_not_there_is_refused_before_anything_starts(labs: Labs) -> None:
    with pytest.raises(NmError, match="there is no network namespace `nm-none`") as refused:
        labs.up("name: none\nn_nodes: 1\nnodes:\n  1: {uplink: {namespace: nm-none}}\n")
    assert refused.value.id == "host.uplink"
    assert list(labs.home.labs()) == []


def test_a_missing_program_is_refused_by_name(labs: Labs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "orchestrator.deploy.host_checks.shutil.which",
        lambda name, path=None: None if name == "pasta" else name,
    )
    with pytest.raises(NmError, match="pasta: is not installed") as refused:
        labs.up("name: none\nn_nodes: 1\nnodes:\n  1: {uplink: {interface: lo}}\n")
    assert "apt-get install passt" in (refused.value.hint or "")
