"""Test the rules of a node with an uplink, and what they are made from."""

from __future__ import annotations

import shutil
import subprocess

import pytest

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
    assert uplinks.local_addresses(TRIE) == ["203.0.113.1"]
    assert uplinks.local_addresses("") == []


@pytest.mark.skipif(shutil.which("nft") is None, reason="nft is not installed (apt-get install -y nftables)")
@pytest.mark.parametrize("machine", [[], ["203.0.113.1", "198.51.100.7"]])
def test_the_rules_are_ones_that_nft_accepts(machine: list[str]) -> None:
    rules = uplinks.rules(machine)
    assert all(address in rules for address in machine)
    enter = ["unshare", "--user", "--map-root-user", "--net"]
    done = subprocess.run(
        [*enter, "nft", "-f", "-"], input=rules, text=True, capture_output=True, timeout=20, check=False
    )
    assert done.returncode == 0, done.stderr
