"""Test the choice of the TTL mode."""

from __future__ import annotations

import pytest

from orchestrator import plan, topology


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("{type: ring, n_nodes: 4}", "uniform"),
        ("{type: line, n_nodes: 256}", "uniform"),  # 255 links: 254 relays take 254
        ("{type: line, n_nodes: 257}", "pipe"),
        ("{type: ring, n_nodes: 511}", "uniform"),  # decided by working every distance out
        ("{type: ring, n_nodes: 512}", "pipe"),
        ("{type: fat_tree, k: 14}", "uniform"),
        ("{type: torus, dim: 3, n: 10}", "uniform"),
        ("{type: random, n_nodes: 1000, degree: 4}", "uniform"),
    ],
)
def test_the_longest_path_decides(shape: str, expected: str) -> None:
    meant = topology.loads(f"name: lab\ntopology: {shape}")
    assert plan.ttl_mode(meant) == expected
    assert (plan.ttl_note(meant) is None) == (expected == "uniform")
    assert {node.ttl_mode for node in plan.build(meant).nodes} == {expected}


def test_parts_that_are_not_linked_are_looked_at_one_by_one() -> None:
    links = [f"[{n}, {n + 1}]" for n in range(1, 300) if n != 2]
    text = "name: lab\nn_nodes: 300\nlinks: [{}]".format(
        ", ".join(f"{{endpoints: {each}}}" for each in links)
    )
    assert plan.ttl_mode(topology.loads(text)) == "pipe"


@pytest.mark.parametrize(("nodes", "expected"), [(256, "uniform"), (257, "pipe")])
def test_an_explicit_route_counts_as_far_as_it_goes(nodes: int, expected: str) -> None:
    path = ", ".join(str(n) for n in range(1, nodes + 1))
    text = f"""
name: lab
topology: {{type: ring, n_nodes: 400}}
routing: {{protocol: none}}
routes: [{{from: 1, to: {nodes}, path: [{path}]}}]
"""
    assert plan.ttl_mode(topology.loads(text)) == expected
