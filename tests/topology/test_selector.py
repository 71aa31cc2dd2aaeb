"""Test selectors."""

from __future__ import annotations

import pytest

from orchestrator import topology
from orchestrator.topology import SelectorInvalid
from orchestrator.topology.selector import select

LAB = topology.loads(
    "n_nodes: 6\n"
    "nodes:\n"
    "  1: {name: trainer, labels: {tier: core}}\n"
    "  2: {name: w-a, labels: {tier: edge}}\n"
    "  3: {name: w-b, labels: {tier: edge}}\n"
)


@pytest.mark.parametrize(
    ("expression", "nodes"),
    [
        (3, (3,)),
        ("3", (3,)),
        ("2-4", (2, 3, 4)),
        ("1, 3-4 ,6", (1, 3, 4, 6)),
        ("trainer", (1,)),
        ("node-1", (1,)),
        ("node-5", (5,)),
        ("w-*", (2, 3)),
        ("w-[ab]", (2, 3)),
        ("tier=edge", (2, 3)),
        ("all", (1, 2, 3, 4, 5, 6)),
        ("4,4,3-5", (3, 4, 5)),
        (["w-a", 6, "tier=core"], (1, 2, 6)),
    ],
)
def test_what_is_meant(expression: str | int | list[str | int], nodes: tuple[int, ...]) -> None:
    assert topology.select(LAB, expression) == nodes


def test_rest_is_what_others_have_left() -> None:
    assert select("rest", LAB.nodes, taken={1, 2}) == (3, 4, 5, 6)
    assert select("rest", LAB.nodes, taken=set(LAB.nodes)) == ()


@pytest.mark.parametrize(
    ("expression", "message", "hint"),
    [
        ("9", "`9` is no node", "nodes are 1 to 6, also called"),
        ("0", "`0` is no node", "nodes are 1 to 6"),
        ("4-9", "`4-9` leaves the topology", "nodes are 1 to 6"),
        ("1-99999999999999999999", "leaves the topology", "nodes are 1 to 6"),
        ("4-2", "`4-2` runs backwards", "write `2-4`"),
        ("trianer", "`trianer` is no node", "did you mean `trainer`?"),
        ("x*", "`x*` matches no node", "nodes are 1 to 6"),
        ("tier=cloud", "`tier=cloud` matches no node", "values of `tier` are `core`, `edge`"),
        ("rack=1", "`rack=1` matches no node", "labels here are `tier`"),
        ("rest", "`rest` has no meaning here", "write the nodes, or `all`"),
        ("", "`` is empty", "nodes are 1 to 6"),
        ("1,,2", "`` is empty", "nodes are 1 to 6"),
        ([], "`[]` names no node", "nodes are 1 to 6"),
    ],
)
def test_what_means_nothing_is_refused(expression: str, message: str, hint: str) -> None:
    with pytest.raises(SelectorInvalid) as caught:
        topology.select(LAB, expression)
    assert message in caught.value.message
    assert caught.value.hint is not None
    assert caught.value.hint.startswith(hint)
    assert caught.value.exit_code == 2
