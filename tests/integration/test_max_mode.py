"""Test max mode in a real lab: SOCKS5 and redirected flows over up to six relays, with curl and wget."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.deploy.home import Home
from orchestrator.lab import Lab
from orchestrator.protocol.messages import MaxFlowStatus
from tests.integration.conftest import Nm, shared_lab

pytestmark = pytest.mark.integration

SERVED = hashlib.sha512(b"max mode").digest() * 200_000
"""Some 13 MB: more than every buffer on the way holds."""

HASH = hashlib.sha256(SERVED).hexdigest()

line = shared_lab(
    "name: maxline\ntopology: {type: line, n_nodes: 9}\ndefaults: {node: {operating_mode: max}}\n"
    "nodes:\n"
    "  3: {socks5: {port: 1080, username: ada, password: lovelace}}\n"
    "  9: {operating_mode: normal}\n"
)


@pytest.fixture(scope="module")
def served(line: Lab, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """The line, with a web server at node 8 and at node 9."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "file").write_bytes(SERVED)
    for node in (8, 9):
        command = f"nohup python3 -m http.server --bind :: -d {folder} 80 >{folder}/log-{node} 2>&1 &"
        assert line.node(node).run(["sh", "-c", command]).exit_code == 0
        ready = (
            "for i in $(seq 100); do curl -s -o /dev/null http://127.0.0.1/ && exit; sleep 0.1; done; exit 1"
        )
        assert line.node(node).run(["sh", "-c", ready]).exit_code == 0
    return line


def wait_flow(lab: Lab, what: str, fits: Callable[[MaxFlowStatus], bool]) -> MaxFlowStatus:
    """Return the latest flow that fits, once the controller knows it."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if found := next(filter(fits, lab.flows.list_max()), None):
            return found
        time.sleep(0.05)
    raise AssertionError(f"no flow {what}; there are {lab.flows.list_max()}")


def test_curl_crosses_one_to_six_relays_by_socks5(served: Lab) -> None:
    """Every byte arrives, and the flow is listed with its route and its bytes."""
    curl = "curl -sS -f --socks5-hostname 127.0.0.1:8081 http://node-8/file | sha256sum"
    for first in (6, 5, 4, 2, 1):
        done = served.node(first).run(["sh", "-c", curl])
        assert (done.exit_code, done.stdout.split()[0]) == (0, HASH), done.stderr
        flow = wait_flow(served, f"of node {first}", lambda flow: flow.node == first)  # noqa: B023  # called within this round
        assert flow.route == tuple(range(first, 9))
        flow = wait_flow(served, "that ended", lambda flow: flow.node == first and flow.state != "running")  # noqa: B023  # called within this round
        assert (flow.state, flow.entry, flow.destination) == ("finished", "socks5", "node-8:80")
        assert flow.bytes_in > len(SERVED)
        assert 0 < flow.bytes_out < 1_000


def test_programs_that_know_nothing_of_socks5_are_redirected(served: Lab, home: Home, tmp_path: Path) -> None:
    """wget crosses seven links; a flow to a node in normal mode leaves max mode before it."""
    address6 = (
        served.node(1).run(["sh", "-c", "getent ahostsv6 node-8 | head -1 | cut -d' ' -f1"]).stdout.strip()
    )
    done = served.node(1).run(["sh", "-c", f"wget -q -O - http://[{address6}]/ | grep -c file"])
    assert done.exit_code == 0, (address6, done)
    wait_flow(served, "of IPv6", lambda flow: flow.destination == f"[{address6}]:80")
    for target, route in (("node-8", range(1, 9)), ("node-9", range(1, 9))):
        done = served.node(1).run(["sh", "-c", f"wget -q -O - http://{target}/file | sha256sum"])
        assert (done.exit_code, done.stdout.split()[0]) == (0, HASH), done.stderr
        address = f"10.0.0.{target[-1]}:80"
        flow = wait_flow(served, f"to {address}", lambda flow: flow.destination == address)  # noqa: B023  # called within this round
        assert (flow.entry, flow.route) == ("redirected", tuple(route))
    nm = Nm(home, tmp_path)
    listed = nm("flow", "max", "-o", "json").json
    assert {"redirected"} <= {flow["entry"] for flow in listed}
    assert "1-2-3-4-5-6-7-8" in nm("flow", "max").out


def test_clients_are_told_why_they_are_refused(served: Lab) -> None:
    """curl names the reply of SOCKS5; a password is checked, and other nodes may enter with it."""
    curl = "curl -sS -o /dev/null --max-time 10 --socks5-hostname"
    for words, expected in (
        ("127.0.0.1:8081 http://node-8:81/", "(5)"),
        ("127.0.0.1:8081 http://no-such-node/", "(4)"),
        ("127.0.0.1:8081 http://203.0.113.7/", "(3)"),
        ("127.0.0.1:8081 http://127.0.0.1:80/", "(3)"),
    ):
        done = served.node(2).run(["sh", "-c", f"{curl} {words}"])
        assert (done.exit_code, expected in done.stderr) == (97, True), (words, done)
    for node, words, code in (
        (3, "127.0.0.1:1080 http://node-8/", 97),
        (3, "127.0.0.1:1080 --proxy-user ada:wrong http://node-8/", 97),
        (3, "127.0.0.1:1080 --proxy-user ada:lovelace http://node-8/", 0),
        (9, "node-3:1080 --proxy-user ada:lovelace http://node-8/", 0),
        (9, "node-2:8081 http://node-8/", 7),
    ):
        done = served.node(node).run(["sh", "-c", f"{curl} {words}"])
        assert done.exit_code == code, (words, done)
    failed = wait_flow(served, "that failed", lambda flow: flow.destination == "node-8:81")
    assert (failed.state, failed.reason) == ("failed", "refused")


def test_a_flow_is_held_while_a_node_is_paused_or_a_link_is_down(served: Lab, tmp_path: Path) -> None:
    """It goes on afterwards where it was, as a TCP flow of packets would."""
    (tmp_path / "serve.py").write_text(
        "import socket; l=socket.create_server(('', 7001)); print('ready', flush=True); s,_=l.accept()\n"
        "while d := s.recv(100): s.sendall(d)"
    )
    (tmp_path / "ask.py").write_text(
        "import socket,time; s=socket.create_connection(('node-8', 7001)); n=0\n"
        "while True:\n s.sendall(b'%7d\\n' % n); assert int(s.recv(8)) == n; n+=1; print(n, flush=True)\n"
        " time.sleep(0.005)"
    )
    out, err = tmp_path / "out", tmp_path / "err"
    for node, program, into in ((8, "serve", out), (2, "ask", err)):
        start = f"nohup timeout 60 python3 {tmp_path}/{program}.py >{into} 2>&1 &"
        assert served.node(node).run(["sh", "-c", start]).exit_code == 0
        wait_text(into, "ready" if node == 8 else "1\n")

    def count() -> int:
        return err.read_text().count("\n")

    def wait_stopped() -> int:
        deadline, last = time.monotonic() + 15, -1
        while time.monotonic() < deadline:
            if (now := count()) == last:
                return now
            last = now
            time.sleep(0.2)
        raise AssertionError(f"still {err.read_text()[-100:]}")

    link = served.link(3, 4)
    for stop, resume in (
        (served.node(5).pause, served.node(5).unpause),
        (link.down, link.up),
    ):
        stop()
        stopped = wait_stopped()
        resume()
        wait_text(err, f"{stopped + 10}\n")
    flow = wait_flow(served, "to port 7001", lambda flow: flow.destination.endswith(":7001"))
    assert (flow.state, flow.route) == ("running", tuple(range(2, 9)))


def test_a_relay_that_is_killed_resets_both_ends(served: Lab, tmp_path: Path) -> None:
    """Neither end takes the loss of a node for the end of the data."""
    wait = (
        "import socket,sys; s=socket.create_connection(('node-8', 7000)); print('up', flush=True); s.recv(1)"
    )
    serve = (
        "import socket; l=socket.create_server(('', 7000)); print('ready', flush=True); s,_=l.accept();\n"
        "try: print('end', s.recv(1))\nexcept ConnectionResetError: print('reset', flush=True)"
    )
    (tmp_path / "serve.py").write_text(serve)
    out, err = tmp_path / "out", tmp_path / "err"
    start = f"nohup python3 {tmp_path}/serve.py >{out} 2>&1 &"
    assert served.node(8).run(["sh", "-c", start]).exit_code == 0
    wait_text(out, "ready")
    assert served.node(1).run(["sh", "-c", f'nohup python3 -c "{wait}" >{err} 2>&1 &']).exit_code == 0
    wait_text(err, "up")
    wait_flow(served, "to port 7000", lambda flow: flow.destination.endswith(":7000"))
    served.node(4).kill()
    wait_text(out, "reset")
    wait_text(err, "ConnectionResetError")
    flow = wait_flow(
        served, "that was cut", lambda flow: flow.destination.endswith(":7000") and flow.state == "failed"
    )
    assert flow.route == tuple(range(1, 9))
    served.node(4).start()


def wait_text(path: Path, text: str) -> None:
    """Wait until a file has a text."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        if path.exists() and text in path.read_text():
            return
        time.sleep(0.05)
    raise AssertionError(f"no {text!r} in {path}: {path.read_text() if path.exists() else 'no file'}")
