"""Groups, members, trees, and the events that tell of them."""

from __future__ import annotations

import pytest

from nextmini_py import Dataplane, Event, TreeRefused, UnknownGroup
from tests.nextmini_py.conftest import LINE, WAIT_MS, make_group


def test_a_group_is_found_by_its_creator_and_by_its_label(nodes: dict[int, Dataplane]) -> None:
    nodes[1].create_group("one")
    nodes[1].create_group("two")
    assert nodes[1].group_is_ready(timeout_ms=WAIT_MS) == (2, "239.255.0.2", 1)
    assert nodes[1].group_is_ready(timeout_ms=WAIT_MS, label="one") == (1, "239.255.0.1", 1)
    assert nodes[3].group_is_ready(timeout_ms=WAIT_MS, label="two") == (2, "239.255.0.2", 1)
    assert nodes[1].group_is_ready(timeout_ms=WAIT_MS) == (2, "239.255.0.2", 1), "asking twice is the same"


def test_a_message_to_a_group_reaches_members_only(nodes: dict[int, Dataplane]) -> None:
    group_id, group_ip = make_group(nodes, members=(3,))
    three = nodes[3].register_receiver_for_group(1, group_ip)
    nodes[1].send_to_group(group_id, b"to all")
    delivery = three.recv(timeout_ms=WAIT_MS)
    assert delivery is not None
    assert (delivery.payload, delivery.dst_ip) == (b"to all", group_ip)


def test_membership_ends_at_once_with_its_own_event(nodes: dict[int, Dataplane]) -> None:
    group_id, _ = make_group(nodes)
    nodes[2].leave_group(group_id)
    assert nodes[2].wait_for_local_membership(group_id, timeout_ms=0) is False
    kinds = [event.kind for event in nodes[2].events(timeout_ms=0)]
    assert kinds.count("LocalMemberJoined") == 1
    assert kinds.count("LocalMemberLeft") == 1


def test_a_tree_is_computed_installed_and_returned(nodes: dict[int, Dataplane]) -> None:
    nodes[1].create_group("group")
    group_id, _, source = nodes[1].group_is_ready(timeout_ms=WAIT_MS) or (0, "", 0)
    assert nodes[1].compute_group_routes(group_id, [3]) == LINE
    for node in nodes.values():
        assert node.wait_for_group_routes(group_id, source, timeout_ms=WAIT_MS)


def test_an_invalid_tree_is_refused(nodes: dict[int, Dataplane]) -> None:
    group_id, _ = make_group(nodes)
    with pytest.raises(TreeRefused) as raised:
        nodes[1].set_group_routes(group_id, [(2, 3)])
    assert raised.value.id == "group.tree"


def test_an_unknown_group_is_named(nodes: dict[int, Dataplane]) -> None:
    with pytest.raises(UnknownGroup):
        nodes[1].join_group(9, timeout_ms=10)
    with pytest.raises(UnknownGroup):
        nodes[1].set_group_routes(9, [(1, 2)])
    with pytest.raises(UnknownGroup):
        nodes[1].leave_group(9)
    with pytest.raises(UnknownGroup):
        nodes[1].send_to_group(9, b"x")


def test_events_come_once_and_in_order(nodes: dict[int, Dataplane]) -> None:
    make_group(nodes)
    events = list(nodes[1].events(timeout_ms=0))
    kinds = [event.kind for event in events if event.kind != "LinkState"]
    assert kinds == ["Controller", "TopologyReady", "GroupCreated", "GroupRoutesInstalled"]
    created = next(event for event in events if event.kind == "GroupCreated")
    detail = {"group_id": 1, "group_ip": "239.255.0.1", "src_node_id": 1, "label": "group"}
    assert created == Event("GroupCreated", detail)
    assert list(nodes[1].events(timeout_ms=0)) == []
