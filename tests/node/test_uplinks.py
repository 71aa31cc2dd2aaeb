"""Test the rules of a node with an uplink, and what they are made from."""

from __future__ import annotations

import ipaddress
import shutil
import subprocess
import sys

import pytest

from orchestrator import procfs, topology
from orchestrator.node import uplinks

TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.1
           /32 host LOCAL
     |-- 169.254.7.7
        /32 host LOCAL
     +-- 203.0.113.0/24 2 0 2
        |-- 203.0.113.0
           /24 link UNICAST
        |-- 203.0.113.1
           /32 host LOCAL
        |-- 203.0.113.255
           /32 link BROADCAST
Local:
        |-- 203.0.113.1
           /32 host LOCAL
"""


def test_the_addresses_of_the_machine_are_those_that_it_takes_packets_for() -> None:
    assert procfs.local_addresses(TRIE) == ["203.0.113.1"]
    assert procfs.local_addresses("") == []


ROUTES = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010012AC\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000012AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
utun\t0000000A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
"""


def test_the_network_of_an_uplink_is_the_one_that_topologies_may_not_use() -> None:
    command = uplinks.pasta(7, None)
    address, prefix, gateway = (command[command.index(option) + 1] for option in ("-a", "-n", "-g"))
    found = ipaddress.IPv4Interface(f"{address}/{prefix}").network
    assert found == ipaddress.IPv4Network(topology.UPLINK_NETWORK)
    assert ipaddress.IPv4Address(gateway) in found


@pytest.mark.skipif(sys.byteorder != "little", reason="the kernel shows these numbers in its byte order")
def test_the_networks_of_an_interface_are_read_from_the_routes() -> None:
    assert uplinks.networks_of("eth0", ROUTES) == ["172.18.0.0/16"]


def test_a_node_reaches_the_containers_beside_it_but_forwards_nothing_to_them() -> None:
    rules = uplinks.rules(["172.18.0.1", "203.0.113.1"], interface="eth0", beside=["172.18.0.0/16"])
    assert "172.18.0.0/16" in rules.split("chain sent")[0]
    assert "172.18" not in rules.split("chain sent")[1]


@pytest.mark.skipif(shutil.which("nft") is None, reason="nft is not installed (apt-get install -y nftables)")
@pytest.mark.parametrize("machine", [[], ["203.0.113.1", "198.51.100.7"]])
@pytest.mark.parametrize("beside", [[], ["172.18.0.0/16"]])
def test_the_rules_are_ones_that_nft_accepts(machine: list[str], beside: list[str]) -> None:
    rules = uplinks.rules(machine, beside=beside)
    assert all(address in rules for address in [*machine, *beside])
    enter = ["unshare", "--user", "--map-root-user", "--net"]
    done = subprocess.run(
        [*enter, "nft", "-f", "-"], input=rules, text=True, capture_output=True, timeout=20, check=False
    )
    assert done.returncode == 0, done.stderr
