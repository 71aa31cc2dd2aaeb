"""Test the certificates of a lab, and the plans and files of labs that have them."""

from __future__ import annotations

import stat
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from orchestrator import plan, render, topology
from orchestrator.clock import ManualClock
from orchestrator.errors import UsageError
from orchestrator.plan import Certificates
from orchestrator.plan.certificates import CLOCK_SKEW, certificate_names, make_certificates
from orchestrator.settings import load_controller, load_node
from orchestrator.topology import Access

GIVEN = Certificates(
    authority="-----BEGIN CERTIFICATE-----\nauthority\n-----END CERTIFICATE-----\n",
    certificate="-----BEGIN CERTIFICATE-----\ncontroller\n-----END CERTIFICATE-----\n",
    key="the key\n",
)
RING = topology.loads("name: ring\ntopology: {type: ring, n_nodes: 4}\ncontroller: {tls: true}\n")


def test_a_certificate_is_for_its_names_and_signed_by_its_authority() -> None:
    x509 = pytest.importorskip("cryptography.x509", reason="cryptography is not installed")
    names = certificate_names(Access(listen="2001:db8::7", names=("lab.example.org", "localhost")))
    assert names == ("localhost", "127.0.0.1", "::1", "controller", "2001:db8::7", "lab.example.org")
    now = 1_800_000_000.0
    made = make_certificates("ring", names, clock=ManualClock(wall=now), validity=timedelta(days=2))
    authority = x509.load_pem_x509_certificate(made.authority.encode())
    certificate = x509.load_pem_x509_certificate(made.certificate.encode())
    certificate.verify_directly_issued_by(authority)
    stated = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert stated.get_values_for_type(x509.DNSName) == ["localhost", "controller", "lab.example.org"]
    assert [str(ip) for ip in stated.get_values_for_type(x509.IPAddress)] == [
        "127.0.0.1",
        "::1",
        "2001:db8::7",
    ]
    basic = x509.BasicConstraints
    assert authority.extensions.get_extension_for_class(basic).value == basic(ca=True, path_length=0)
    assert certificate.extensions.get_extension_for_class(basic).value == basic(ca=False, path_length=None)
    start = datetime.fromtimestamp(now).astimezone()
    for each in (authority, certificate):
        assert each.not_valid_before_utc == start - CLOCK_SKEW
        assert each.not_valid_after_utc == start + timedelta(days=2)
    assert made.key not in repr(made)
    assert make_certificates("ring", names).authority != made.authority


def test_every_part_has_what_it_needs_of_the_certificates() -> None:
    made = plan.build(RING, certificates=GIVEN, controller_port=21_000)
    assert made.controller_url == "wss://127.0.0.1:21000/control"
    assert {node.controller_addr for node in made.nodes} == {made.controller_url}
    assert {node.controller_ca for node in made.nodes} == {GIVEN.authority}
    assert (made.controller.tls_certificate, made.controller.tls_key) == ("controller.crt", "controller.key")
    plain = plan.build(replace(RING, controller=Access()), certificates=GIVEN)
    assert plain.certificates is None and plain.nodes[0].controller_ca == ""


def test_containers_have_it_too_and_the_port_is_published_where_it_is_asked_for() -> None:
    outside = replace(RING, controller=Access(listen="2001:db8::7"))
    made = plan.build(outside, certificates=GIVEN, backend="docker", controller_port=21_000)
    assert made.nodes[0].controller_addr == "wss://controller:3000/control"
    assert (made.controller.host, made.controller.listen) == ("0.0.0.0", "")
    controller = next(service for service in made.services if service.name == "controller")
    assert controller.ports == ("127.0.0.1:21000:3000", "[2001:db8::7]:21000:3000")
    assert [bind.target for bind in controller.binds] == [
        "/etc/nm/controller.toml",
        "/etc/nm/controller.crt",
        "/etc/nm/controller.key",
    ]
    native = plan.build(outside, certificates=GIVEN)
    assert (native.controller.host, native.controller.listen) == ("127.0.0.1", "2001:db8::7")


def test_an_address_of_other_machines_without_tls_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        plan.build(replace(RING, controller=Access(listen="192.0.2.7", tls=False)))
    assert caught.value.id == "usage.plain-controller"


def test_files_say_what_the_plan_says_and_the_key_is_the_owners(tmp_path: Path) -> None:
    made = plan.build(replace(RING, controller=Access(tls=True, listen="127.0.0.2")), certificates=GIVEN)
    render.write(made, tmp_path)
    controller = load_controller(tmp_path / "controller.toml")
    assert (controller.listen, controller.tls_certificate) == ("127.0.0.2", "controller.crt")
    assert load_node(tmp_path / "node-1.toml").controller_ca == GIVEN.authority
    assert (tmp_path / "ca.pem").read_text() == GIVEN.authority
    key = tmp_path / "controller.key"
    assert (key.read_text(), stat.S_IMODE(key.stat().st_mode)) == (GIVEN.key, 0o600)
    render.write(plan.build(replace(RING, controller=Access())), tmp_path)
    assert not {"ca.pem", "controller.crt", "controller.key"} & {each.name for each in tmp_path.iterdir()}
