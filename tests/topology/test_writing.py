"""Test writing of topologies."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator import topology
from orchestrator.errors import UsageError
from orchestrator.impairment import LinkSpec
from orchestrator.topology import Link, Node, Route, Topology

SPECS = st.builds(
    LinkSpec,
    rate_bps=st.none() | st.integers(1, 10**12),
    delay_us=st.none() | st.integers(0, 10**9),
    loss=st.none() | st.floats(0, 1).filter(lambda loss: loss == 0 or loss > 1e-15),
    limit_packets=st.none() | st.integers(1, 10**6),
) | st.builds(
    LinkSpec,
    limit_bytes=st.integers(1, 10**9),
    delay_us=st.integers(10**6, 10**9),
    jitter_us=st.integers(0, 10**6),
    jitter_distribution=st.none() | st.sampled_from(["normal", "pareto"]),
    jitter_reorder=st.none() | st.booleans(),
    loss=st.sampled_from([0.0, 0.01, 0.5]),
    loss_burst=st.none() | st.integers(1, 1000).map(float),
)
SPECS |= st.builds(
    LinkSpec,
    rate_bps=st.integers(1, 10**12),
    rate_burst_bytes=st.none() | st.integers(9_216, 10**6),
    duplicate=st.none() | st.sampled_from([0.0, 0.01, 1.0]),
    reorder=st.sampled_from([0.001, 0.5]),
    reorder_gap=st.none() | st.integers(1, 100),
    limit_us=st.none() | st.integers(1, 10**6),
    queue=st.just("codel"),
    codel_target_us=st.none() | st.integers(1, 9_999),
    codel_interval_us=st.none() | st.integers(10_000, 10**6),
    ecn=st.none() | st.booleans(),
    scheduler=st.sampled_from(["drr", "priority"]),
    scheduler_by=st.sampled_from(["source", "dst_port"]),
    scheduler_weights=st.dictionaries(st.integers(0, 65_535), st.integers(1, 9), min_size=1),
    mtu=st.none() | st.integers(576, 9216),
)
LABELS = st.dictionaries(
    st.from_regex(r"[A-Za-z][a-z.]{0,5}[a-z]", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9][a-z0-9:/.-]{0,6}", fullmatch=True),
    max_size=3,
)
NODES = st.builds(
    Node,
    id=st.just(0),
    name=st.just(""),
    labels=LABELS,
    external=st.booleans(),
    mtu=st.integers(576, 9216),
    offload=st.sampled_from(["auto", "off"]),
    num_tun_queues=st.integers(1, 256),
    channel_capacity=st.integers(1, 10**6),
    channel_backpressure=st.booleans(),
    ready_grace_ms=st.integers(1, 86_400_000),
    peer_report_timeout_ms=st.integers(1, 86_400_000),
    start_timeout_ms=st.integers(1, 86_400_000),
    window_bytes=st.integers(65_536, 2**32),
)
NAMES = st.sampled_from(["a", "null-x", "true", "on", "e1", "No", "x_y"])


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    """Draw any topology that a file can mean."""
    from dataclasses import replace

    n = draw(st.integers(2, 7))
    names = draw(st.lists(NAMES, max_size=n, unique_by=str.casefold))
    nodes = {}
    for number in range(1, n + 1):
        name = names[number - 1] if number <= len(names) else f"node-{number}"
        nodes[number] = replace(draw(NODES), id=number, name=name)
    pairs = draw(st.sets(st.sampled_from([(a, b) for a in nodes for b in nodes if a < b])))
    links = tuple(
        Link(a=a, b=b, forward=draw(SPECS), backward=draw(SPECS), forward_down=draw(st.booleans()))
        for a, b in sorted(pairs)
    )
    routes = tuple(
        Route(
            src=link.a,
            dst=link.b,
            edges=((link.a, link.b),),
            path=draw(st.none() | st.just((link.a, link.b))),
        )
        for link in links[:3]
    )
    routing = draw(st.sampled_from(["shortest_path", "none"]))
    seed = draw(st.integers(0, 2**63 - 1))
    return Topology(name="x", nodes=nodes, links=links, routes=routes, routing=routing, seed=seed)


# Topologies with every key of every link are large, and a loaded machine needs its time to draw them.
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(topologies())
def test_any_topology_survives_being_written(meant: Topology) -> None:
    assert topology.loads(topology.dump(meant)) == meant


def test_generate_writes_a_short_file() -> None:
    text = topology.generate("ring", n_nodes=4)
    assert text == "# A cycle.\nname: ring\ntopology: {type: ring, n_nodes: 4}\n"
    assert len(topology.loads(text).nodes) == 4


def test_generate_can_write_every_link() -> None:
    text = topology.generate("random", name="net", explicit=True, seed=5, n_nodes=6, degree=3)
    assert "topology:" not in text
    meant = topology.loads(topology.generate("random", name="net", seed=5, n_nodes=6, degree=3))
    assert topology.loads(text) == meant


@pytest.mark.parametrize(
    ("type", "params", "id"),
    [
        ("rng", {}, "topology.generator"),
        ("clos", {}, "topology.missing-key"),
        ("ring", {}, "topology.missing-key"),
        ("ring", {"n_nodes": 2}, "topology.range"),
        ("ring", {"k": 4}, "topology.unknown-key"),
        ("fat_tree", {"k": 5}, "topology.generator"),
        ("ring", {"n_nodes": 10**9}, "topology.invalid"),
    ],
)
def test_generate_refuses_what_a_file_would(type: str, params: dict[str, int], id: str) -> None:
    with pytest.raises((UsageError, topology.loader.TopologyInvalid)) as caught:
        topology.generate(type, **params)
    assert caught.value.id == id
    assert caught.value.exit_code == 2


def test_generate_refuses_names_that_leave_their_folder() -> None:
    with pytest.raises(UsageError, match="cannot be a lab's name"):
        topology.generate("ring", name="../x", n_nodes=4)
