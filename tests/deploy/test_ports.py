"""Test the choice of free ports and subnets."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

import pytest

from orchestrator.deploy import ports
from orchestrator.deploy.home import Home
from orchestrator.errors import HostNotFit


def test_a_port_is_free_and_outside_the_ephemeral_range(tmp_path: Path) -> None:
    port, other = ports.free_ports(Home(tmp_path), 2)
    assert port in ports.PORTS and port != other
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))


def test_a_subnet_overlaps_nothing_that_is_in_use() -> None:
    used = ["172.31.0.0/16", "172.30.255.0/24", "not a network", "fe80::/64"]
    network = ipaddress.ip_network(ports.free_subnet(4, used))
    assert not any(network.overlaps(ipaddress.ip_network(each)) for each in used[:2])
    assert not network.overlaps(ipaddress.ip_network("10.0.0.0/16"))
    assert network.prefixlen == 24


def test_a_large_lab_gets_a_large_subnet() -> None:
    assert ipaddress.ip_network(ports.free_subnet(1000, [])).num_addresses >= 1003


@pytest.mark.parametrize(("hosts", "prefix"), [(253, 24), (254, 23), (509, 23), (510, 22)])
def test_a_subnet_is_no_larger_than_it_has_to_be(hosts: int, prefix: int) -> None:
    assert ipaddress.ip_network(ports.free_subnet(hosts, [])).prefixlen == prefix


def test_whoever_chooses_at_the_same_moment_hardly_takes_the_same_subnet() -> None:
    assert len({ports.free_subnet(4, []) for _ in range(20)}) > 10


def test_the_only_free_subnet_is_taken() -> None:
    far = ipaddress.ip_network("172.31.255.0/24")
    used = [str(each) for each in ipaddress.ip_network(ports.POOLS[0]).address_exclude(far)]
    assert ports.free_subnet(4, used) == str(far)


def test_no_subnet_left_is_said() -> None:
    with pytest.raises(HostNotFit) as caught:
        ports.free_subnet(4, ports.POOLS)
    assert caught.value.id == "host.no-subnet"


def test_routes_of_the_machine_are_read(tmp_path: Path) -> None:
    table = tmp_path / "route"
    table.write_text(
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    )
    assert ports.host_routes(table) == ["192.168.0.0/24"]
