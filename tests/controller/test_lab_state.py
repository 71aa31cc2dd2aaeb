"""Test the pure parts of the controller: routing, trees, reconcile, readiness."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.controller.errors import GroupLabelTaken, LinkUnknown, NodeTaken, RouteInvalid, TreeInvalid
from orchestrator.controller.groups import Groups, TreeSpec
from orchestrator.controller.lab import Lab
from orchestrator.controller.registry import Link, Node, NodeStates, Registry, Wanted
from orchestrator.controller.routing import check_route, check_tree, next_hop_tables, shortest_path_tree
from orchestrator.impairment import LinkSpec
from orchestrator.protocol import ProtocolError
from orchestrator.protocol import messages as m
from orchestrator.store import RouteRow

from .fakes import ring

SLOW = LinkSpec(delay_us=1_000)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]], set[int]]:
    """A graph of up to 12 nodes, with some of its nodes dead."""
    n = draw(st.integers(1, 12))
    pairs = [(a, b) for a in range(1, n + 1) for b in range(a + 1, n + 1)]
    links = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    alive = draw(st.sets(st.integers(1, n)))
    return n, links, alive


@settings(deadline=None)  # a busy machine is no failure
@given(graphs())
def test_following_next_hops_is_a_shortest_path(graph: tuple[int, list[tuple[int, int]], set[int]]) -> None:
    n, links, alive = graph
    tables = {node: unpack(table) for node, table in next_hop_tables(range(1, n + 1), links, alive).items()}
    near = neighbours(links, alive)
    for source in range(1, n + 1):
        distance = distances(source, near) if source in alive else {}
        for target in range(1, n + 1):
            hop = tables[source][target]
            if source == target or target not in distance:
                assert hop == 0
                continue
            node, hops = source, 0
            while node != target:
                node = tables[node][target]
                hops += 1
                assert node in alive and hops <= n
            assert hops == distance[target]


@settings(deadline=None)  # a busy machine is no failure
@given(graphs(), st.integers(0, 2**32))
def test_next_hops_use_no_blocked_direction(
    graph: tuple[int, list[tuple[int, int]], set[int]], seed: int
) -> None:
    n, links, alive = graph
    chance = random.Random(seed)
    blocked = [chance.choice([(a, b), (b, a)]) for a, b in links if chance.random() < 0.5]
    found = next_hop_tables(range(1, n + 1), links, alive, blocked)
    tables = {node: unpack(table) for node, table in found.items()}
    near = {node: set(each) for node, each in neighbours(links, alive).items()}
    for start, end in blocked:
        near.get(start, set()).discard(end)
    for source in alive & set(range(1, n + 1)):
        distance = distances(source, near)
        for target in set(range(1, n + 1)) - {source}:
            node, hops = source, 0
            while target in distance and node != target:
                assert tables[node][target] in near[node]
                node, hops = tables[node][target], hops + 1
            assert hops == distance.get(target, 0)
            assert target in distance or tables[source][target] == 0


def test_equal_paths_share_the_load() -> None:
    # Two leaves, four spines in between: every spine is used by somebody.
    links = [(leaf, spine) for leaf in range(1, 5) for spine in range(5, 9)]
    tables = next_hop_tables(range(1, 9), links, range(1, 9))
    used = {unpack(tables[source])[target] for source in range(1, 5) for target in range(1, 5)} - {0}
    assert used == {5, 6, 7, 8}


def test_a_table_is_indexed_by_destination() -> None:
    tables = next_hop_tables([1, 2, 3], [(1, 2), (2, 3)], [1, 2, 3])
    assert tables[1] == struct.pack("<4I", 0, 0, 2, 2)
    assert next_hop_tables([], [], []) == {}


@settings(deadline=None)  # a busy machine is no failure
@given(graphs(), st.integers(0, 2**32))
def test_a_computed_tree_is_a_tree_of_shortest_paths(
    graph: tuple[int, list[tuple[int, int]], set[int]], seed: int
) -> None:
    n, links, alive = graph
    chance = random.Random(seed)
    source = chance.randint(1, n)
    receivers = {chance.randint(1, n) for _ in range(3)}
    near = neighbours(links, alive | {source})
    edges, missed = shortest_path_tree(source, receivers, near, alive)
    distance = distances(source, near)
    reached = receivers - set(missed)
    assert set(missed) == {receiver for receiver in receivers - {source} if receiver not in distance}
    check_tree(source, edges, reached, set(links))
    depth = {source: 0}
    for _ in edges:
        depth.update({end: depth[start] + 1 for start, end in edges if start in depth})
    assert all(depth[receiver] == distance[receiver] for receiver in reached)


@pytest.mark.parametrize(
    ("edges", "reason"),
    [
        (((1, 2), (1, 2)), "given twice"),
        (((1, 1),), "leads nowhere"),
        (((1, 3),), "no link between 1 and 3"),
        (((2, 1),), "back to the source"),
        (((1, 2),), "does not reach the members 3"),
        (((1, 2), (3, 4)), "not connected"),
        (((2, 3), (3, 4), (4, 5), (5, 2)), "not connected"),
        ((), "does not reach"),
    ],
)
def test_edges_that_make_no_tree_are_refused_with_the_reason(
    edges: tuple[tuple[int, int], ...], reason: str
) -> None:
    with pytest.raises(TreeInvalid, match=reason):
        check_tree(1, edges, {3}, {(1, 2), (2, 3), (3, 4), (4, 5), (2, 5), (1, 4)})


@pytest.mark.parametrize(
    ("edges", "reason"),
    [
        (((1, 2),), "does not arrive"),
        (((1, 3),), "which there is not"),
        (((1, 2), (2, 3), (3, 2)), "a loop"),
        (((1, 2), (2, 3), (3, 4), (4, 1)), "a loop"),
        ((), "does not arrive"),
    ],
)
def test_edges_that_make_no_route_are_refused_with_the_reason(
    edges: tuple[tuple[int, int], ...], reason: str
) -> None:
    with pytest.raises(RouteInvalid, match=reason):
        check_route(1, 3, edges, {(1, 2), (2, 3), (3, 4), (1, 4)})


def test_a_route_may_be_a_directed_graph_without_loops() -> None:
    check_route(1, 3, ((1, 2), (2, 3), (1, 4), (4, 3)), {(1, 2), (2, 3), (3, 4), (1, 4)})


def test_a_lab_sends_a_node_only_what_it_lacks() -> None:
    lab = make(4)
    for node_id in (1, 2, 3, 4):
        lab.register(node_id, hello(7), "host")
    first = lab.flush()
    assert {node: [message.type for message in messages] for node, messages in first.items()} == {
        node: ["AddNode", "AddNode", "InstallRoutes"] for node in (1, 2, 3, 4)
    }
    assert lab.flush() == {} and not lab.has_changes
    confirm(lab, first)
    lab.set_link(1, 2, LinkSpec(delay_us=9), to_end=2)
    [message] = lab.flush()[1]
    assert isinstance(message, m.SetLink) and message.link == LinkSpec(delay_us=9)
    lab.set_link(1, 2, LinkSpec(delay_us=9), to_end=2)
    assert lab.flush() == {}


def test_what_a_returning_node_still_has_is_not_sent_again() -> None:
    lab = make(3)
    for node_id in (1, 2, 3):
        lab.register(node_id, hello(7), "host")
    sent = lab.flush()
    have = m.Have(
        routes=next(x.version for x in sent[1] if isinstance(x, m.InstallRoutes)),
        links={x.remote_node_id: x.version for x in sent[1] if isinstance(x, m.AddNode)},
    )
    lab.disconnect("host")
    for node_id, kept in ((1, have), (2, m.Have()), (3, m.Have(routes=5, links={1: 5, 9: 9}))):
        lab.register(node_id, hello(7, kept), "again")
    again = lab.flush()
    assert 1 not in again
    assert [message.type for message in again[2]] == ["AddNode", "AddNode", "InstallRoutes"]
    assert [message.type for message in again[3]] == ["RemoveNode", "AddNode", "AddNode", "InstallRoutes"]
    routes = again[3][-1]
    assert isinstance(routes, m.InstallRoutes) and routes.reset and routes.table


def test_a_link_to_a_process_started_anew_is_made_anew() -> None:
    lab = make(2)
    lab.register(1, hello(7), "a")
    lab.register(2, hello(8), "b")
    lab.flush()
    lab.link_state(1, 2, True)
    lab.disconnect("b")
    lab.register(2, hello(9), "c")
    [message] = lab.flush()[1]
    assert isinstance(message, m.AddNode) and message.remote_process == 9
    assert 2 not in lab.registry.node(1).links_up


def test_both_ends_of_a_link_get_its_key_and_no_other_pair_has_it() -> None:
    registry = Registry([Node(n, str(n)) for n in (1, 2, 3)], link_secret="hush")
    assert registry.link_key(1, 2) == registry.link_key(2, 1)
    keys = {registry.link_key(a, b) for a, b in ((1, 2), (1, 3), (2, 3))}
    assert len(keys) == 3 and all(len(key) == 32 for key in keys)
    assert Registry([], link_secret="other").link_key(1, 2) not in keys
    assert Registry([]).link_key(1, 2) == b"", "no secret, no key: nodes then refuse to link"


def test_the_key_of_a_link_is_sent_where_it_is_needed_and_never_shown() -> None:
    lab = make(2)
    lab.registry._link_secret = "hush"
    lab.register(1, hello(7), "a")
    lab.register(2, hello(8), "b")
    sent = lab.flush()
    [one] = [each for each in sent[1] if isinstance(each, m.AddNode)]
    [two] = [each for each in sent[2] if isinstance(each, m.AddNode)]
    assert one.secret == two.secret == lab.registry.link_key(1, 2)
    assert "secret" not in repr(one)
    assert "hush" not in repr(lab.registry)


def test_a_link_within_a_process_has_no_key() -> None:
    lab = make(2)
    lab.registry._link_secret = "hush"
    for node in (1, 2):
        lab.register(node, hello(7), "host")
    [order] = [each for each in lab.flush()[1] if isinstance(each, m.AddNode)]
    assert order.same_process and order.secret == b""


def test_a_link_that_is_gone_is_removed() -> None:
    lab = make(3)
    for node_id in (1, 2, 3):
        lab.register(node_id, hello(7), "host")
    lab.flush()
    lab.change_links({(1, 3): None, (1, 2): Link(1, 2)})
    sent = lab.flush()
    assert [message.type for message in sent[1]] == ["RemoveNode", "InstallRoutes"]
    assert [message.type for message in sent[3]] == ["RemoveNode", "InstallRoutes"]


def test_explicit_routes_are_sent_by_difference_and_a_wrong_one_is_named() -> None:
    lab = make(4)
    for node_id in (1, 2, 3, 4):
        lab.register(node_id, hello(7), "host")
    confirm(lab, lab.flush())
    one, two = RouteRow(1, 1, 3, ((1, 2), (2, 3))), RouteRow(2, 1, 3, ((1, 4), (4, 3)))
    lab.change_routes({1: one, 2: two, 3: RouteRow(3, 1, 3, ((1, 3),))})
    sent = lab.flush()
    assert set(sent) == {2, 4} and not lab.routes_can_go_on
    confirm(lab, sent)
    assert lab.routes_can_go_on
    [message] = lab.flush()[1]
    assert isinstance(message, m.InstallRoutes) and message.table is None and not message.reset
    assert [(route.route_id, route.next_hops) for route in message.routes] == [(1, (2,)), (2, (4,))]
    assert list(lab.problems) == ["route 3"]
    assert lab.flush() == {} and lab.explicit.changing  # the source has not confirmed it
    confirm(lab, {1: [message]})
    lab.flush()
    assert not lab.explicit.changing
    lab.change_routes({2: None, 3: None})
    for node in (1, 4):  # its source first
        sent = lab.flush()
        assert set(sent) == {node}
        gone = sent[node][0]
        assert isinstance(gone, m.InstallRoutes) and gone.removed == (2,) and not lab.problems
        confirm(lab, sent)


def test_a_relay_that_is_gone_or_stopped_is_not_waited_for_and_one_that_comes_back_is() -> None:
    lab = make(4)
    for node_id in (1, 2, 3, 4):
        lab.register(node_id, hello(7), node_id)
    confirm(lab, lab.flush())
    lab.change_routes({1: RouteRow(1, 1, 4, ((1, 2), (2, 3), (3, 4)))})
    confirm(lab, {2: lab.flush()[2]})
    lab.flush()
    assert lab.explicit.awaited_by(1) == {3}
    lab.disconnect(3)
    lab.flush()
    assert lab.explicit.awaited_by(1) == {3}
    lab.register(3, hello(7), "again")
    sent = lab.flush()
    assert 1 not in sent and sent[3][-1].type == "InstallRoutes"
    lab.set_wanted(3, Wanted.STOPPED)
    assert 1 in lab.flush() and lab.explicit.awaited_by(1) == {1}


def test_a_change_that_is_taken_back_before_it_is_sent_keeps_nothing_waiting() -> None:
    lab = make(4)
    for node_id in (1, 2, 3, 4):
        lab.register(node_id, hello(7), "host")
    confirm(lab, lab.flush())
    route = RouteRow(1, 1, 3, ((1, 2), (2, 3)))
    lab.change_routes({1: route})
    confirm(lab, lab.flush())
    confirm(lab, lab.flush())
    lab.change_routes({1: None})
    lab.change_routes({1: route})
    assert lab.flush() == {} and not lab.explicit.changing


def test_the_barrier_opens_once_and_only_when_all_are_ready() -> None:
    lab = make(3, external=[3])
    lab.register(1, hello(7), "host")
    confirm(lab, lab.flush())
    lab.reported_ready(1)
    assert not lab.newly_ready()
    assert "neighbour 2 has not registered" in lab.readiness.missing(lab.registry.node(1))
    lab.register(2, hello(7), "host")
    confirm(lab, lab.flush())
    lab.reported_ready(2)
    assert "not up" in lab.readiness.missing(lab.registry.node(1))
    lab.link_state(1, 2, True)
    assert "other end" in lab.readiness.missing(lab.registry.node(1))
    lab.link_state(2, 1, True)
    assert [node.id for node in lab.newly_ready()] == [1, 2]
    assert lab.barrier_passed() and not lab.barrier_passed()
    assert lab.readiness.counts() == (2, 2)


def test_an_external_node_belongs_to_one_running_process() -> None:
    registry = Registry([Node(1, "a")])
    registry.register(1, hello(7), "one")
    with pytest.raises(NodeTaken):
        registry.register(1, hello(8), "two")
    registry.register(1, hello(7), "the same process on a new connection")
    registry.register(1, hello(8), "two", peer_alive=False)


def test_a_link_that_there_is_not_is_answered_with_those_there_are() -> None:
    registry = Registry([Node(n, str(n)) for n in (1, 2, 3)], [Link(1, 2)])
    with pytest.raises(LinkUnknown) as caught:
        registry.link(1, 3)
    assert caught.value.hint == "node 1 has links to 2"


def test_group_addresses_come_from_the_pool_until_it_is_used_up() -> None:
    groups = Groups("239.255.0.0", "255.255.255.240")
    made = [groups.create(f"g{n}", 1)[0].ip for n in range(5)]
    assert made == [f"239.255.0.{n}" for n in range(10, 15)]
    with pytest.raises(ProtocolError, match="no address left"):
        groups.create("one too many", 1)


@pytest.mark.parametrize("label", ["", "x" * 201, "line\nbreak", "nul\0"])
def test_a_group_needs_a_name_that_can_be_shown(label: str) -> None:
    with pytest.raises(GroupLabelTaken):
        Groups().create(label, 1)


def test_a_refused_tree_leaves_the_old_ones_in_force() -> None:
    lab = make(4)
    group, _ = lab.groups.create("w", 1)
    lab.groups.join(group.id, 3)
    lab.set_trees(group.id, [TreeSpec(0, ((1, 2), (2, 3)))])
    with pytest.raises(TreeInvalid, match="tree 1: "):
        lab.set_trees(group.id, [TreeSpec(0, ((1, 4), (4, 3))), TreeSpec(1, ((1, 2),))])
    assert group.in_force == (TreeSpec(0, ((1, 2), (2, 3))),)
    with pytest.raises(TreeInvalid, match="given twice"):
        lab.set_trees(group.id, [TreeSpec(1, ()), TreeSpec(1, ())])


def test_a_computed_tree_goes_around_a_dead_node_and_back() -> None:
    lab = make(4)
    lab.readiness.passed = True
    for node_id in (1, 2, 3, 4):
        lab.register(node_id, hello(7 + node_id), node_id)
    group, _ = lab.groups.create("w", 1)
    lab.groups.join(group.id, 3)
    lab.group_changed(group.id)
    lab.flush()
    assert group.computed[0].edges == ((1, 2), (2, 3))
    lab.disconnect(2)
    assert lab.mark_unreachable(lab.registry.node(2), NodeStates.UNREACHABLE)
    lab.flush()
    assert group.computed[0].edges == ((1, 4), (4, 3))
    lab.register(2, hello(99), 2)
    lab.flush()
    assert group.computed[0].edges == ((1, 4), (4, 3))  # its links are not up yet
    for a, b in [(1, 2), (2, 1), (2, 3), (3, 2)]:
        lab.link_state(a, b, True)
    lab.flush()
    assert group.computed[0].edges == ((1, 2), (2, 3))


def test_shortest_paths_follow_declared_delays_and_not_those_of_live_changes() -> None:
    links = [Link(a, b, forward=SLOW, backward=SLOW) for a, b in ring(4)]
    registry = Registry([Node(i, f"node-{i}") for i in range(1, 5)], links)
    lab = Lab(registry, Groups(), metric="delay", was_ready=True)
    for node_id in range(1, 5):
        lab.register(node_id, hello(7 + node_id), node_id)

    def hop() -> int:
        confirm(lab, lab.flush())
        for a, b in ring(4):
            lab.link_state(a, b, True)
            lab.link_state(b, a, True)
        lab.flush()
        return unpack(lab.wanted_routes[1].table)[2]

    assert hop() == 2
    slower = LinkSpec(delay_us=9_000)
    lab.set_link(1, 2, slower, to_end=2)
    assert hop() == 2
    lab.change_links({(1, 2): Link(1, 2, forward=slower, backward=SLOW)})
    assert hop() == 4
    lab.change_links({(1, 2): Link(1, 2, forward=SLOW, backward=SLOW)})
    assert hop() == 2


def make(n: int, *, external: Iterable[int] = ()) -> Lab:
    outside = set(external)
    nodes = [Node(i, f"node-{i}", external=i in outside) for i in range(1, n + 1)]
    return Lab(Registry(nodes, [Link(a, b) for a, b in ring(n)]), Groups())


def hello(process: int, have: m.Have | None = None) -> m.StartUp:
    return m.StartUp("lab", "10.1.0.1:8080", process=process, have=have or m.Have())


def confirm(lab: Lab, sent: dict[int, list[m.Message]]) -> None:
    for node_id, messages in sent.items():
        for message in messages:
            lab.confirmed(lab.registry.node(node_id), message)


def unpack(table: bytes) -> list[int]:
    return [number for (number,) in struct.iter_unpack("<I", table)]


def neighbours(links: Iterable[tuple[int, int]], alive: set[int]) -> dict[int, set[int]]:
    near: dict[int, set[int]] = {node: set() for node in alive}
    for a, b in links:
        if a in alive and b in alive:
            near[a].add(b)
            near[b].add(a)
    return near


def distances(source: int, near: dict[int, set[int]]) -> dict[int, int]:
    found = {source: 0}
    edge = [source]
    while edge:
        after = sorted({b for a in edge for b in near.get(a, ()) if b not in found})
        found.update(dict.fromkeys(after, found[edge[0]] + 1))
        edge = after
    return found
