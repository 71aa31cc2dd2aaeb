"""Test a lab whose controller takes TLS: nodes, agents, commands, the REST API, and what is refused."""

from __future__ import annotations

import os
import signal
import ssl
import time
from pathlib import Path

import pytest
import requests
from websockets.sync.client import connect

from orchestrator.errors import HostNotFit, UsageError
from orchestrator.lab import Lab
from orchestrator.testing.plugin import Labs
from tests.integration.conftest import RING, Here, shared_lab

LOOPBACK = "127.0.0.2"
"""A further address of loopback, which every machine has."""

lab = shared_lab(RING, tls=True, listen=LOOPBACK)


def test_the_api_and_the_events_are_reached_with_the_labs_authority_alone(lab: Lab) -> None:
    facts = lab.status().details()
    api, authority = facts["api_url"], facts["ca_file"]
    assert facts["controller"].startswith("wss://127.0.0.1:") and api.startswith(f"https://{LOOPBACK}:")
    headers = {"Authorization": "Bearer " + Path(facts["token_file"]).read_text().strip()}
    for url in (f"{api}/lab", api.replace("/api/v1", "/metrics"), api.replace("/api/v1", "/healthz")):
        assert requests.get(url, headers=headers, verify=authority, timeout=20).status_code == 200
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(f"{api}/lab", headers=headers, timeout=20)
    plain = requests.get(api.replace("https", "http") + "/lab", headers=headers, timeout=20)
    assert (plain.status_code, plain.text) == (400, "this port takes TLS only: use wss:// or https://\n")
    stream = api.replace("https", "wss") + "/events/stream?after=0"
    trusting = ssl.create_default_context(cafile=authority)
    with connect(stream, additional_headers=headers, ssl=trusting) as events:
        assert '"seq":1' in str(events.recv(20)).replace(" ", "")


def test_its_key_is_for_the_owner_alone_and_nodes_have_the_authority(lab: Lab) -> None:
    run = lab.directory / "run"
    assert (run / "controller.key").stat().st_mode & 0o777 == 0o600
    authority = (run / "ca.pem").read_text()
    for node in lab.nodes:
        text = Path(node.config).read_text()
        assert f"controller_ca = {authority!r}".replace("'", '"') in text and "PRIVATE KEY" not in text


def test_packets_cross_and_roles_run(lab: Lab) -> None:
    assert lab.node(1).run(["ping", "-c", "1", "-W", "5", lab.node(3).address]).exit_code == 0
    assert lab.run_scenario("unicast-echo").verdict == "pass"


def test_nodes_come_back_to_a_controller_that_was_killed(lab: Lab) -> None:
    run = lab.directory / "run"
    certificate = (run / "controller.crt").read_bytes()
    os.kill(lab._inner.note.parts["controller"].pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while lab.status().state != "ready" or not _returned(lab):
        assert time.monotonic() < deadline, lab.status()
        time.sleep(0.1)
    assert (run / "controller.crt").read_bytes() == certificate


def test_a_node_that_is_added_speaks_tls_as_well(lab: Lab) -> None:
    lab.add_node(5, links=[1])
    assert {node.id: node.state for node in lab.status().nodes}[5] == "ready"
    lab.remove_nodes([5])


def test_a_lab_that_is_up_keeps_its_tls(lab: Lab, here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NM_HOME", str(lab.directory.parent.parent))
    again = here("up", RING)
    assert again.code == 0 and "already up" in again.err
    for words in (["--no-tls", "--listen", LOOPBACK], ["--listen", "127.0.0.3"]):
        refused = here("up", RING, "-o", "json", *words)
        assert refused.code == 2 and "lab.differs" in refused.err, refused.err


def test_an_address_without_tls_or_of_another_machine_is_refused_and_nothing_is_left(labs: Labs) -> None:
    with pytest.raises(UsageError) as plain:
        labs.up(RING, name="plain", tls=False, listen="192.0.2.7")
    assert plain.value.id == "usage.plain-controller"
    with pytest.raises(HostNotFit) as foreign:
        labs.up(RING, name="foreign", listen="192.0.2.7")
    assert foreign.value.id == "host.listen"


def _returned(lab: Lab) -> bool:
    listening = [event for event in lab.events() if event.name == "controller.listening"]
    return any(event.detail["incarnation"] == 2 for event in listening)
