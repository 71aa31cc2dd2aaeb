"""The file of a lab that lists its services, and their states."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from orchestrator import plan, services, topology
from orchestrator.services import ServiceFailed, ServiceState, probe

TEXT = """\
topology: {type: ring, n_nodes: 4}
nodes: {2: {name: db}}
services:
  redis: {nodes: db, command: redis-server --port 7, user: nobody, environment: {A: 1}, ready: {tcp: 7}}
  load: {nodes: all, command: [load, "a b"], depends_on: [redis], restart: on-failure:2}
"""


def test_what_is_planned_is_read_back(tmp_path: Path) -> None:
    planned = plan.build(topology.loads(TEXT), external=[4]).instances
    assert [each.key for each in planned] == ["2/redis", "1/load", "2/load", "3/load"]
    (tmp_path / "services.json").write_text(services.write_text(planned))
    assert services.read(tmp_path) == planned
    redis, load, *_ = planned
    assert redis.working_dir == str(Path.cwd())  # where the file is; the text has the name of one
    assert (redis.argv, redis.user, redis.environment) == (
        ("redis-server", "--port", "7"),
        "nobody",
        {"A": "1"},
    )
    assert (load.argv, load.after, load.restart) == (
        ("load", "a b"),
        {"redis": "service_healthy"},
        "on-failure:2",
    )


def test_a_lab_without_services_has_none(tmp_path: Path) -> None:
    assert services.read(tmp_path) == ()


def test_a_service_is_hopeless_after_five_deaths_without_becoming_ready() -> None:
    state = ServiceState(node=1, service="a", state="restarting", deaths=4, exit_code=3)
    assert not state.hopeless
    fifth = ServiceState(node=1, service="a", state="restarting", deaths=5, exit_code=3)
    assert fifth.hopeless
    error = ServiceFailed("lab", fifth, ("its last line",))
    assert error.exit_code == 5
    assert error.render().splitlines()[:2] == [
        "service a in node 1 of lab lab ended 5 times without becoming ready, the last time with exit code 3",
        "    | its last line",
    ]
    assert error.as_json()["error"]["log"] == ["its last line"]


def test_the_probe_waits_for_a_port(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
        assert probe.main(["tcp", port, "0", "0.01", "127.0.0.1"]) == 1
        assert capsys.readouterr().out == f"127.0.0.1:{port}: Connection refused\n"
        threading.Timer(0.05, listener.listen).start()
        assert probe.main(["tcp", port, "10", "0.01", "127.0.0.2", "127.0.0.1"]) == 0


def test_the_probe_asks_for_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(204 if self.path == "/health?all=1" else 500)
            self.end_headers()

        def log_message(self, *_words: object) -> None:
            """Print nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert probe.main(["http", f"{url}/health?all=1", "0", "0", "127.0.0.1"]) == 0
        assert probe.main(["http", f"{url}/", "0", "0", "127.0.0.1"]) == 1
        server.shutdown()
    assert capsys.readouterr().out == f"{url}/ answers with status 500\n"
