"""Test real programs over every generator's topology.

The client and the server sit as far from each other as the topology allows, so that every packet crosses
relays where there are any.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.deploy.home import Home
from orchestrator.lab import Node
from orchestrator.testing.plugin import Labs
from tests.integration.rows import send
from tests.integration.services import (
    INITIAL_TTL,
    SHAPES,
    Place,
    assert_shortest_paths_to,
    checked,
    find,
    need,
    place,
    serve,
    shape,
)

LIMIT_S = 30.0
"""How long one command may take; none needs more than two seconds on an idle machine."""

FILE = random.Random("a file to fetch").randbytes(6_000_000)
SHA256 = hashlib.sha256(FILE).hexdigest()


@pytest.fixture(scope="module", params=list(SHAPES))
def here(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A lab of each shape, for all programs of this file."""
    folder = tmp_path_factory.mktemp(request.param)
    labs = Labs(Home(folder / "nm"))
    try:
        yield place(labs.up(shape(request.param)), folder)
    finally:
        labs.end()


def run(node: Node, *argv: object, stdin: bytes | None = None) -> str:
    """Run a command in a node that has to end well, and return what it printed."""
    return checked(node.run([str(word) for word in argv], stdin=stdin, timeout=LIMIT_S))


def test_ping_by_address_and_by_name(here: Place) -> None:
    need("ping")
    for target in (here.server.address, here.server.name):
        said = run(here.client, "ping", "-c", 3, "-i", 0.05, "-W", 5, target)
        assert "3 packets transmitted, 3 received, 0% packet loss" in said
        assert said.count(f"ttl={INITIAL_TTL - (here.hops - 1)} ") == 3  # each relay has taken its one


def test_every_pair_is_reached_on_a_shortest_path(here: Place) -> None:
    need("ping")
    outcome = here.lab.run_scenario("pingall", results=here.folder / "pingall")
    assert outcome.verdict == "pass", (outcome.reason, outcome.failures, outcome.checks)
    assert {row["reached"] for row in outcome.rows} == {len(here.lab.nodes) - 1}
    assert_shortest_paths_to(here.lab, here.client.id)


def test_traceroute_counts_every_hop(here: Place) -> None:
    need("traceroute")
    said = run(here.client, "traceroute", "-n", "-q", 1, "-w", 5, "-m", 20, here.server.address)
    hops = [line.split()[1] for line in said.splitlines()[1:]]
    assert len(hops) == here.hops
    assert hops[-1] == here.server.address
    assert "*" not in hops


def test_iperf3_over_tcp(here: Place) -> None:
    need("iperf3")
    serve(here.server, ["iperf3", "-s", "-1", "-p", "5201"], here.folder / "iperf-tcp").wait_listening(5201)
    said = json.loads(run(here.client, "iperf3", "-c", here.server.address, "-p", 5201, "-t", 1, "-J"))
    assert "error" not in said
    assert said["end"]["sum_received"]["bytes"] > 1_000_000


def test_iperf3_over_udp_loses_nothing_on_the_way(here: Place) -> None:
    """What comes to the server's socket is counted, not what a program on a busy machine came to read."""
    need("iperf3")
    serve(here.server, ["iperf3", "-s", "-1", "-p", "5202"], here.folder / "iperf-udp").wait_listening(5202)
    overflowed = udp_overflow(here.server)
    said = json.loads(
        run(here.client, "iperf3", "-u", "-b", "20M", "-c", here.server.address, "-p", 5202, "-t", 1, "-J")
    )
    assert "error" not in said
    assert said["end"]["sum"]["packets"] > 1000
    assert said["end"]["sum"]["lost_packets"] <= udp_overflow(here.server) - overflowed
    assert send(here.client, here.server, here.folder, 2000) == 2000


def test_curl_fetches_a_file_from_a_python_server(here: Place) -> None:
    need("curl")
    site = here.folder / "site"
    site.mkdir()
    (site / "file.bin").write_bytes(FILE)
    words = [sys.executable, "-m", "http.server", "8000", "--bind", here.server.address, "--directory", site]
    serve(here.server, words, here.folder / "http").wait_listening(8000)
    for host in (here.server.address, here.server.name):
        got = here.folder / f"got-{host}"
        run(here.client, "curl", "-sS", "--fail", "-o", got, f"http://{host}:8000/file.bin")
        assert hashlib.sha256(got.read_bytes()).hexdigest() == SHA256


def test_redis_keeps_a_replica_in_step(here: Place) -> None:
    need("redis-server", "redis-cli")
    common = ["redis-server", "--port", "6379", "--protected-mode", "no", "--save", "", "--dir", here.folder]
    master = [*common, "--bind", here.server.address, "--repl-diskless-sync-delay", "0"]
    server = serve(here.server, master, here.folder / "redis-master").wait_listening(6379)
    before = b"".join(b"SET early:%d %d\r\n" % (i, i * i) for i in range(500))
    run(here.third, "redis-cli", "-h", here.server.address, "--pipe", stdin=before)
    replica = [*common, "--bind", here.client.address, "--replicaof", here.server.address, "6379"]
    serve(here.client, replica, here.folder / "redis-replica").wait_listening(6379)
    until_linked(here)
    after = b"".join(b"SET late:%d %d\r\n" % (i, i + 7) for i in range(500))
    run(here.third, "redis-cli", "-h", here.server.address, "--pipe", stdin=after)
    mark = b"SET mark 1\nWAIT 1 20000\n"
    assert run(here.third, "redis-cli", "-h", here.server.address, stdin=mark).split() == ["OK", "1"]
    held = [run(here.third, "redis-cli", "-h", node.address, "DBSIZE") for node in (here.server, here.client)]
    assert held == ["1001\n", "1001\n"]
    asked = run(here.third, "redis-cli", "-h", here.client.address, stdin=b"GET early:499\nGET late:499\n")
    assert asked.split() == ["249001", "506"]
    # Asked to end with the lab, it would wait ten seconds for its replica.
    os.kill(server.pid, signal.SIGKILL)


def test_ssh_runs_a_command_and_scp_copies_a_file(here: Place, privilege_folder: None) -> None:
    need("ssh", "scp", "sshd", "ssh-keygen")
    client = ssh_into(here)
    said = run(here.client, "ssh", *client, f"root@{here.server.address}", "echo $SSH_CONNECTION")
    assert said.split()[0] == here.client.address
    assert said.split()[2] == here.server.address
    source, target = here.folder / "source.bin", here.folder / "target.bin"
    source.write_bytes(FILE)
    run(here.client, "scp", "-q", *client, source, f"root@{here.server.name}:{target}")
    assert hashlib.sha256(target.read_bytes()).hexdigest() == SHA256


def test_a_postgres_client_asks_a_server_in_another_node(here: Place, cluster: Path) -> None:
    need("psql")
    launcher = here.folder / "postgres.py"
    launcher.write_text(LAUNCHER)
    (here.folder / "hba.conf").write_text("host all all 10.0.0.0/16 trust\n")
    words = [sys.executable, launcher, cluster, here.server.address, here.folder / "hba.conf"]
    serve(here.server, words, here.folder / "postgres").wait_saying("ready to accept connections")
    psql = ["psql", "-X", "-At", "-q", "-v", "ON_ERROR_STOP=1", "-U", "nm", "-d", "postgres"]
    psql += ["-h", here.server.name]
    script = (
        b"select host(inet_client_addr()), host(inet_server_addr());\n"
        b"drop table if exists kept;\n"
        b"create table kept as select i, md5(i::text) as hash from generate_series(1, 20000) as i;\n"
        b"copy (select hash from kept order by i) to stdout;\n"
    )
    first, *rows = run(here.client, *psql, stdin=script).splitlines()
    assert first == f"{here.client.address}|{here.server.address}"
    assert rows == [hashlib.md5(str(i).encode()).hexdigest() for i in range(1, 20001)]


# What the programs need.

LAUNCHER = """
import os, sys
from orchestrator.store.embedded import find_binaries
from orchestrator.store.privileges import become

data, address, hba = sys.argv[1:]
if os.geteuid() == 0:
    become(os.stat(data).st_uid, keep_read_capability=True)()  # Postgres refuses to be root
program = find_binaries() / "postgres"
options = {"listen_addresses": address, "hba_file": hba, "unix_socket_directories": "", "fsync": "off",
           "dynamic_shared_memory_type": "mmap"}
words = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
os.execv(program, [str(program), "-D", data, "-p", "5432", *words])
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database cluster, made once; every server of this file runs on it, one after the other."""
    from orchestrator.store.embedded import EmbeddedPostgres

    made = EmbeddedPostgres(tmp_path_factory.mktemp("cluster"))
    made.start()
    made.stop()
    return made.data


@pytest.fixture(scope="module")
def privilege_folder() -> Iterator[None]:
    """The empty folder that Debian's sshd insists on, which its service script would have made."""
    folder = Path("/run/sshd")
    made = not folder.exists()
    if made:
        folder.mkdir(mode=0o755)
    yield
    if made:
        folder.rmdir()


def ssh_into(here: Place) -> list[str]:
    """Start a server with throw-away keys; returns the client's options."""
    keys = {name: here.folder / name for name in ("host_key", "user_key")}
    for key in keys.values():
        run(here.server, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    host, user = ((key.with_suffix(".pub")).read_text() for key in keys.values())
    names = f"[{here.server.address}]:2222,[{here.server.name}]:2222"
    (here.folder / "known_hosts").write_text(f"{names} {host}")
    (here.folder / "authorized_keys").write_text(user)
    (here.folder / "sshd_config").write_text(
        f"Port 2222\nListenAddress {here.server.address}\nHostKey {keys['host_key']}\nPidFile none\n"
        f"AuthorizedKeysFile {here.folder / 'authorized_keys'}\nStrictModes no\nUsePAM no\n"
        f"PermitRootLogin prohibit-password\nPasswordAuthentication no\nSubsystem sftp internal-sftp\n"
    )
    words = [str(find("sshd")), "-D", "-e", "-f", here.folder / "sshd_config"]
    serve(here.server, words, here.folder / "sshd").wait_listening(2222)
    options = {
        "Port": "2222",
        "IdentityFile": str(keys["user_key"]),
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": str(here.folder / "known_hosts"),
        "StrictHostKeyChecking": "yes",
        "BatchMode": "yes",
        "ConnectTimeout": "10",
    }
    return ["-F", "none", *(part for name, value in options.items() for part in ("-o", f"{name}={value}"))]


def until_linked(here: Place) -> None:
    """Wait until the replica has the master's data; redis tries once a second."""
    deadline = time.monotonic() + LIMIT_S
    while "master_link_status:up" not in run(
        here.third, "redis-cli", "-h", here.client.address, "INFO", "replication"
    ):
        assert time.monotonic() < deadline, (here.folder / "redis-replica").read_text()
        time.sleep(0.02)


def udp_overflow(node: Node) -> int:
    """Return how many datagrams came to a node whose socket had no room for them."""
    lines = [line.split() for line in run(node, "cat", "/proc/net/snmp").splitlines()]
    names, values = (line for line in lines if line[0] == "Udp:")
    return int(values[names.index("RcvbufErrors")])
