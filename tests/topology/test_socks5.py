"""Test the SOCKS5 listener of nodes in max mode, as files describe it."""

from __future__ import annotations

import pytest

from orchestrator import topology
from orchestrator.errors import TopologyInvalid

LINE = "topology: {type: line, n_nodes: 3}\n"
MAX = "defaults: {node: {operating_mode: max, socks5: {username: ada, password: lovelace}}}\n"


def test_its_keys_are_laid_over_each_other() -> None:
    read = topology.loads(LINE + MAX + "nodes: {2: {socks5: {port: 1080}}}\n")
    second, third = read.nodes[2], read.nodes[3]
    assert (second.max_server_port, second.socks5_username, second.socks5_password) == (
        1080,
        "ada",
        "lovelace",
    )
    assert (third.operating_mode, third.max_server_port) == ("max", 8081)
    again = topology.loads(topology.dump(read))
    assert again.nodes == read.nodes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nodes: {2: {socks5: {username: ada}}}", "has a username and no password"),
        ("nodes: {2: {socks5: {password: x}}}", "has a password and no username"),
        ("nodes: {2: {socks5: {port: 0}}}", "port"),
        ("nodes: {2: {socks5: {username: '', password: x}}}", "username"),
        ("nodes: {2: {operating_mode: fast}}", "operating_mode"),
    ],
)
def test_what_is_wrong_is_said(text: str, message: str) -> None:
    with pytest.raises(TopologyInvalid) as caught:
        topology.loads(LINE + text)
    assert message in " ".join(problem.message for problem in caught.value.problems)
