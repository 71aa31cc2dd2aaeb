"""Test changes by SQL and of groups with real nodes: links and routes carry packets, groups have trees."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.deploy import node_states
from orchestrator.deploy.home import Home
from orchestrator.errors import NmError
from orchestrator.lab import GroupTree, Lab
from tests.integration.conftest import RING, Nm, shared_lab
from tests.integration.services import need

lab = shared_lab(RING)


@pytest.fixture
def nm(home: Home, tmp_path: Path) -> Nm:
    """`nm` with the home of the lab that the tests share."""
    return Nm(home, tmp_path)


def ping_ms(lab: Lab, target: int) -> float:
    """The round trip of the last of two pings from node 1, in milliseconds."""
    said = lab.node(1).run(["ping", "-c", "2", "-i", "0.01", f"10.0.0.{target}"]).stdout
    return float(re.findall(r"time=([0-9.]+) ms", said)[-1])


def until_confirmed(nm: Nm) -> None:
    """Wait until the nodes have confirmed what was changed by SQL."""
    for _ in range(200):
        left = nm("sql", "-c", "SELECT count(*) FROM sql_changes WHERE confirmed_at IS NULL", "--", "-At")
        if left.out.strip() == "0":
            return
        time.sleep(0.02)
    raise AssertionError(left.out)


def test_a_link_and_a_route_by_sql_carry_packets(lab: Lab, nm: Nm) -> None:
    need("ping")
    slow = """UPDATE links SET forward = '{"delay": "40 ms"}' WHERE (a, b) = (1, 4)"""
    route = "INSERT INTO routes (src_node_id, dst_node_id, edges) VALUES (1, 2, '[1, 4, 3, 2]')"
    done = nm("sql", "-c", slow, "-c", route)
    assert (done.code, done.out) == (0, "UPDATE 1\nINSERT 0 1\n"), done.err
    until_confirmed(nm)
    assert ping_ms(lab, 2) >= 40
    assert nm("sql", "-c", "DELETE FROM routes").code == 0
    until_confirmed(nm)
    assert ping_ms(lab, 2) < 40
    changes = [event.detail for event in lab.events() if event.name == "sql.changed"]
    assert [(each["table"], each["operation"], each["role"]) for each in changes] == [
        ("links", "update", "nm_user"),
        ("routes", "insert", "nm_user"),
        ("routes", "delete", "nm_user"),
    ]


def test_a_node_is_stopped_and_started_by_sql(lab: Lab, nm: Nm) -> None:
    def wanted(state: str, shown: str) -> None:
        assert nm("sql", "-c", f"UPDATE nodes SET wanted = '{state}' WHERE node_id = 3").out == "UPDATE 1\n"
        until(lambda: lab.status().nodes[2].state == shown)

    wanted("stopped", "stopped")
    until(lambda: not lab.node(1).run(["ping", "-c", "1", "-W", "1", "10.0.0.3"]).ok)
    until(lambda: node_states.read(lab._inner._directory) == {3: "stopped"})
    wanted("running", "ready")
    until(lambda: lab.node(1).run(["ping", "-c", "1", "-W", "1", "10.0.0.3"]).ok)
    wanted("paused", "paused")
    until(lambda: node_states.read(lab._inner._directory) == {3: "paused"})
    wanted("running", "ready")
    until(lambda: lab.node(1).run(["ping", "-c", "1", "-W", "1", "10.0.0.3"]).ok)
    refused = nm("sql", "-c", "UPDATE nodes SET mtu = 900")
    assert refused.code == 1 and "only `wanted` is changed by SQL" in refused.err


def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


def test_a_statement_that_fails_says_why(lab: Lab, nm: Nm) -> None:
    failed = nm("sql", "-c", "INSERT INTO links (a, b) VALUES (1, 99)")
    assert failed.code == 1 and "there is no node 99 in this lab" in failed.err
    assert "its nodes are 1 to 4" in failed.err


def test_groups_are_made_joined_and_given_trees(lab: Lab, nm: Nm) -> None:
    made = json.loads(nm("group", "create", "weights", 1, "--members", "2-3", "-o", "json").out)
    assert (made["label"], made["src_node_id"], made["members"], made["explicit"]) == (
        "weights",
        1,
        [2, 3],
        False,
    )
    group = lab.groups.set_trees("weights", [GroupTree(0, ((1, 4), (4, 3), (3, 2)))])
    assert group.explicit and group.trees[0].edges == ((1, 4), (4, 3), (3, 2))
    for trees, error in (
        ([GroupTree(0, ((1, 3),))], "tree.invalid"),
        ([GroupTree(0, ((1, 2),))], "tree.invalid"),
        ([GroupTree(0, ((1, 2), (2, 3)), -1.0)], "tree.weight"),
    ):
        with pytest.raises(NmError) as caught:
            lab.groups.set_trees("weights", trees)
        assert caught.value.id == error
    assert lab.groups.get("weights") == group
    assert lab.groups.leave("weights", [2]).members == (3,)
    assert not lab.groups.reset_trees(group.id).explicit
    assert "239.255.0.10" in nm("group", "list").out
    wrong = nm("group", "join", "nobody", "1")
    assert wrong.code == 2 and "has no group `nobody`" in wrong.err
    taken = nm("group", "create", "weights", 2)
    assert taken.code != 0 and "belongs to node 1" in taken.err
    assert nm("group", "delete", "weights").code == 0
    assert lab.groups.list() == []
