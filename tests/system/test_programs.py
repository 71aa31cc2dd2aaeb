"""Test real programs, an external node, live links and transfers in one lab of containers.

A container's files are its own: what a program needs is written inside, under /tmp, and what it found is read
back through its output.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

from orchestrator.impairment import LinkSpec
from orchestrator.lab import Lab, Node
from tests.integration.conftest import ROOT, shared_lab
from tests.integration.services import checked

LIMIT_S = 60.0
"""How long one command may take; none needs more than three seconds on an idle machine."""

TOPOLOGY = """
name: programs
seed: 7
topology: {type: line, n_nodes: 4}
nodes:
  1: {name: client}
  3: {name: server}
  4: {name: outside, external: true}
"""

LISTENS = """
for _ in $(seq 400); do
    grep -q ":$0 0*:0000 0A" /proc/net/tcp /proc/net/tcp6 && exit
    sleep 0.05
done
exit 1
"""
"""Wait, up to 20 s, until somebody takes connections at the port whose number comes in hexadecimal."""

PROGRAM = """
import sys
import nextmini_py as nm

with nm.Dataplane(sys.argv[1]) as dataplane:
    assert dataplane.wait_for_topology_ready(timeout_ms=60_000)
    receiver = dataplane.register_receiver_from_node(src_node_id=1, src_port=40000, dst_port=50000)
    print("ready", flush=True)
    print(receiver.recv(timeout_ms=60_000).payload.decode(), flush=True)
"""

SENDER = """
def sender(ctx):
    import nextmini_py as nm
    ctx.dataplane.send_to_node(4, nm.PacketView(b"hello program"), src_port=40000, dst_port=50000)
"""


lab = shared_lab(TOPOLOGY, backend="docker", timeout=180)


def run(node: Node, *argv: object, user: str | None = None, stdin: bytes | None = None) -> str:
    return checked(node.run([str(word) for word in argv], timeout=LIMIT_S, user=user, stdin=stdin))


def serve(node: Node, port: int, *argv: object, user: str | None = None) -> None:
    """Start a server in the background of a node and wait until it listens."""
    log = f"/tmp/server-{port}.log"
    words = shlex.join(map(str, argv))
    run(node, "sh", "-c", f"exec {words} </dev/null >{log} 2>&1 &", user=user)
    waited = node.run(["sh", "-c", LISTENS, f"{port:04X}"], timeout=LIMIT_S)
    assert waited.ok, run(node, "cat", log)


def test_ping_and_traceroute_see_every_hop(lab: Lab) -> None:
    client = lab.node("client")
    assert "2 received" in run(client, "ping", "-c", 2, "-i", 0.2, "-W", 5, "server")
    hops = run(client, "traceroute", "-n", "-q", 1, "-w", 5, "server").splitlines()[1:]
    assert [line.split()[1] for line in hops] == ["10.0.0.2", "10.0.0.3"]


def test_iperf3_and_curl_between_containers(lab: Lab) -> None:
    client, server = lab.node("client"), lab.node("server")
    serve(server, 5201, "iperf3", "-s", "-1")
    said = json.loads(run(client, "iperf3", "-c", server.address, "-t", 1, "-J"))
    assert said["end"]["sum_received"]["bytes"] > 1_000_000
    run(server, "sh", "-c", "mkdir /tmp/site && head -c 3000000 /dev/urandom >/tmp/site/file.bin")
    serve(server, 8000, "python3", "-m", "http.server", 8000, "--directory", "/tmp/site")
    fetch = "curl -sS --fail http://server:8000/file.bin | sha256sum"
    assert run(client, "sh", "-c", fetch) == run(server, "sh", "-c", "sha256sum </tmp/site/file.bin")


def test_redis_keeps_a_replica_in_step_between_containers(lab: Lab) -> None:
    client, server = lab.node("client"), lab.node("server")
    common = ["redis-server", "--protected-mode", "no", "--save", "", "--dir", "/tmp", "--port", 6379]
    serve(server, 6379, *common, "--repl-diskless-sync-delay", 0)
    serve(client, 6379, *common, "--replicaof", server.address, 6379)
    run(server, "sh", "-c", "seq 500 | sed 's/.*/SET key:& &/' | redis-cli --pipe")
    assert run(server, "redis-cli", stdin=b"SET mark 1\nWAIT 1 30000\n").split() == ["OK", "1"]
    assert run(client, "redis-cli", "GET", "key:499") == "499\n"


def test_ssh_and_scp_as_an_ordinary_user(lab: Lab) -> None:
    client, server = lab.node("client"), lab.node("server")
    assert run(server, "id", "-un", user="user") == "user\n"
    for node, name in ((server, "host"), (client, "user")):
        run(node, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"/tmp/{name}_key", user="user")
    public = run(client, "cat", "/tmp/user_key.pub", user="user")
    run(server, "sh", "-c", "umask 077; cat >/tmp/authorized_keys", user="user", stdin=public.encode())
    known = "[server]:2222 " + run(server, "cat", "/tmp/host_key.pub", user="user")
    run(client, "sh", "-c", "cat >/tmp/known_hosts", user="user", stdin=known.encode())
    options = ["HostKey=/tmp/host_key", "PidFile=none", "UsePAM=no", "StrictModes=no"]
    options += ["AuthorizedKeysFile=/tmp/authorized_keys", "Subsystem=sftp internal-sftp"]
    words = [word for option in options for word in ("-o", option)]
    serve(server, 2222, "/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", "-p", 2222, *words, user="user")
    said = ["UserKnownHostsFile=/tmp/known_hosts", "IdentityFile=/tmp/user_key", "BatchMode=yes"]
    ssh = ["-F", "none", *(word for option in said for word in ("-o", option))]
    asked = run(client, "ssh", *ssh, "-p", 2222, "server", "echo $SSH_CONNECTION", user="user").split()
    assert (asked[0], asked[2]) == (client.address, server.address)
    run(client, "sh", "-c", "head -c 2000000 /dev/urandom >/tmp/sent.bin", user="user")
    run(client, "scp", "-q", *ssh, "-P", 2222, "/tmp/sent.bin", "server:/tmp/got.bin", user="user")
    sums = [
        run(node, "sha256sum", path, user="user").split()[0]
        for node, path in ((client, "/tmp/sent.bin"), (server, "/tmp/got.bin"))
    ]
    assert sums[0] == sums[1]


def test_a_link_changes_while_it_carries_traffic(lab: Lab) -> None:
    client = lab.node("client")
    lab.set_link(1, 2, LinkSpec(delay_us=40_000))
    assert fastest_ping(client) >= 80
    lab.set_link(1, 2, LinkSpec(delay_us=0, loss=1.0))
    assert not client.run(["ping", "-c", "1", "-W", "1", "server"], timeout=LIMIT_S).ok
    lab.set_link(1, 2, reset=True)
    assert fastest_ping(client) < 40


def fastest_ping(node: Node) -> float:
    """The smallest of a few round trips, in ms: what the network does, whatever else the machine does."""
    said = run(node, "ping", "-c", 5, "-i", 0.2, "-W", 5, "server")
    found = re.search(r"= ([0-9.]+)/", said)
    assert found, said
    return float(found[1])


def test_a_program_outside_becomes_the_external_node(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "scenario.yaml").write_text(
        "name: send\nsummary: one message\nroles:\n  sender: {nodes: client}\nchecks: []\ntimeout: 60 s\n"
    )
    (tmp_path / "roles.py").write_text(SENDER)
    assert lab.status().nodes[3].state == "vacant"
    command = [sys.executable, "-c", PROGRAM, str(lab.node("outside").config)]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "ready\n"
            assert lab.run_scenario(tmp_path, results=tmp_path / "out").verdict != "error"
            assert program.communicate(timeout=LIMIT_S)[0] == "hello program\n"
        finally:
            program.kill()


def test_scenarios_and_transfers_one_after_the_other(lab: Lab, tmp_path: Path) -> None:
    payload = tmp_path / "payload.bin"
    payload.write_bytes(hashlib.shake_256(b"payload").digest(5_000_000))
    for number, (name, params) in enumerate(
        (
            ("unicast-echo", {"count": 20}),
            ("multicast-flow", {"rate": "5 Mbit", "duration": "1 s"}),
            ("weights-sync", {"payload": str(payload), "rounds": 3}),
        )
    ):
        outcome = lab.run_scenario(name, params=params, results=tmp_path / str(number))
        assert outcome.verdict == "pass", (name, outcome.reason, outcome.failures, outcome.checks)
    sums = {row["sha256"] for row in outcome.rows if row["role"] == "worker"}
    assert sums == {hashlib.sha256(payload.read_bytes()).hexdigest()}
