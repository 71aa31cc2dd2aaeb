"""Test the transports of links: shared memory, unix socket, TCP."""

from __future__ import annotations

import contextlib
import hashlib
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.clock import Deadline, SystemClock
from orchestrator.controller.registry import Registry
from orchestrator.impairment import LinkSpec
from orchestrator.lab import Lab
from orchestrator.procfs import ProcessId, send_signal, wait_gone
from orchestrator.settings import load_controller
from orchestrator.testing.leftovers import leftovers
from orchestrator.testing.plugin import Labs
from tests.integration.conftest import RING, Nm

Part = Callable[[str, str], ProcessId]

# Bytes that no two places of share, from a generator that both sides have.
SEND = """
import hashlib, random, socket, sys
draw, digest = random.Random(7), hashlib.sha256()
with socket.create_connection((sys.argv[1], 7007), timeout=30) as line:
    for _ in range(int(sys.argv[2])):
        block = draw.randbytes(1 << 20)
        digest.update(block)
        line.sendall(block)
print(digest.hexdigest())
"""
TAKE = """
import hashlib, socket
digest = hashlib.sha256()
with socket.create_server(("0.0.0.0", 7007)) as server:
    server.settimeout(30)
    line, _ = server.accept()
    line.settimeout(30)
    while block := line.recv(1 << 20):
        digest.update(block)
print(digest.hexdigest())
"""
# Tried until the other side listens.
UNTIL_HEARD = "for i in $(seq 100); do python3 -c '{}' {} {} 2>/dev/null && exit 0; sleep 0.1; done; exit 1"


def line(transport: str, n: int = 2) -> str:
    return f"name: kinds\ntopology: {{type: line, n_nodes: {n}}}\ntransport: {transport}\n"


def kinds(lab: Lab) -> list[str]:
    return [link.kind for link in lab.status().links]


def settled_kinds(lab: Lab) -> list[str]:
    """Wait until every link is up, and tell what carries it."""
    deadline = Deadline(SystemClock(), 20)
    while not all(found := kinds(lab)):
        assert deadline.remaining(), f"not every link came up: {lab.status().links}"
        time.sleep(0.05)
    return found


def hashes(lab: Lab, megabytes: int) -> tuple[str, str]:
    """Send bytes from the first node to the second; return what each side hashed."""
    assert "'" not in SEND
    send = UNTIL_HEARD.format(SEND, "10.0.0.2", megabytes)
    with ThreadPoolExecutor() as pool:
        taken = pool.submit(lab.node(2).run, ["python3", "-c", TAKE], timeout=60)
        sent = lab.node(1).run(["sh", "-c", send], timeout=60)
        return sent.stdout.strip(), taken.result().stdout.strip()


@pytest.mark.parametrize(("transport", "kind"), [("auto", "shared"), ("unix", "unix"), ("tcp", "tcp")])
def test_bytes_cross_whole_stop_with_the_link_and_leave_nothing(
    labs: Labs, nm: Nm, transport: str, kind: str
) -> None:
    lab = labs.up(line(transport), processes="each")
    assert kinds(lab) == [kind]
    sent, taken = hashes(lab, 200)
    assert len(sent) == len(hashlib.sha256().hexdigest()) and sent == taken
    ping = ["ping", "-c", "2", "-i", "0.2", "-W", "1", "node-2"]
    assert lab.node(1).run(ping).ok
    lab.set_link(1, 2, LinkSpec(loss=1.0))
    assert not lab.node(1).run(ping).ok
    lab.set_link(1, 2, reset=True)
    assert lab.node(1).run(ping).ok
    shown = nm("inspect", "-o", "json").json["links"]
    assert [link["kind"] for link in shown] == [kind]
    assert kind in nm("inspect").out
    lab.down()
    assert leftovers(labs.home) == []


def test_a_killed_neighbour_is_noticed_and_met_again_the_same_way(labs: Labs, nm: Nm, part: Part) -> None:
    lab = labs.up(line("auto", 3), processes="each", restart=False)
    assert kinds(lab) == ["shared", "shared"]
    dead = part("kinds", "host-2")
    assert send_signal(dead, signal.SIGKILL)
    assert wait_gone([dead], 10) == []
    assert lab.status().state == "degraded"
    assert kinds(lab) == ["", ""]
    assert labs.up(line("auto", 3)).status().state == "ready"
    assert settled_kinds(lab) == ["shared", "shared"]
    assert lab.node(1).run(["ping", "-c", "1", "-w", "10", "node-3"]).ok


def test_a_socket_that_is_gone_leaves_tcp(labs: Labs, part: Part) -> None:
    lab = labs.up(line("auto"), processes="each", restart=False)
    folder = labs.home.lab("kinds").links
    first, second = sorted(folder.iterdir())
    assert first.match("node-1.*.sock") and second.match("node-2.*.sock")
    first.unlink()
    dead = part("kinds", "host-2")
    assert send_signal(dead, signal.SIGKILL)
    assert wait_gone([dead], 10) == []
    labs.up(line("auto"))
    assert settled_kinds(lab) == ["tcp"]
    assert lab.node(1).run(["ping", "-c", "1", "-w", "10", "node-2"]).ok
    # What the killed process left was swept by its successor; ours is gone by our own hand.
    [left] = folder.iterdir()
    assert left.match("node-2.*.sock") and left != second


def test_who_takes_a_dead_hosts_port_gets_no_secret(labs: Labs, part: Part) -> None:
    lab = labs.up(line("tcp"), processes="each", restart=False)
    dead = part("kinds", "host-1")
    [port] = listening(dead.pid)
    assert send_signal(dead, signal.SIGKILL)
    assert wait_gone([dead], 10) == []
    said = b""
    with listen(port) as squatter:
        squatter.settimeout(10)
        for answer in (b"", b"\0" * 4096):
            caller, _ = squatter.accept()
            with caller:
                caller.settimeout(10)
                said += caller.recv(65_536)
                caller.sendall(answer)
                caller.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionError):
                    while more := caller.recv(65_536):
                        said += more
    assert b"kinds" in said, "it was greeted as node 1 of this lab"
    settings = load_controller(lab.directory / "run" / "controller.toml")
    key = Registry(link_secret=settings.link_secret).link_key(1, 2)
    for secret in (settings.node_key, settings.operator_token, settings.link_secret):
        assert secret.encode() not in said
    assert key not in said and len(said) < 300, "two greetings and nothing else"
    labs.up(line("tcp"))
    assert settled_kinds(lab) == ["tcp"]


def listen(port: int) -> socket.socket:
    """Take a port as soon as the threads of the process that had it are gone, too."""
    deadline = Deadline(SystemClock(), 10)
    while True:
        try:
            return socket.create_server(("127.0.0.1", port))
        except OSError:
            assert deadline.remaining(), f"port {port} stays taken"
            time.sleep(0.01)


def listening(pid: int) -> list[int]:
    """Return the TCP ports on which a process listens."""
    inodes = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            inodes.add(str(each.readlink()))
    rows = [row.split() for row in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return sorted(
        {int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes}
    )


def test_one_process_needs_none_of_it(labs: Labs) -> None:
    assert kinds(labs.up(line("tcp", 3))) == ["memory", "memory"]


def test_an_invalid_word_is_refused(nm: Nm) -> None:
    for word, said in (("udp", "not built yet"), ("unxi", "did you mean `unix`?")):
        refused = nm("validate", "--set", f"transport={word}", RING)
        assert refused.code != 0 and said in refused.err
