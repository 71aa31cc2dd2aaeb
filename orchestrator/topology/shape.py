"""The shape of a generated topology: nodes that are numbered from 1, and pairs of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

__all__ = ["Edge", "Shape", "edge", "shape"]

Edge = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Shape:
    """What a generator makes: `n` nodes, their links, and a `tier` label where the shape has tiers."""

    n: int
    edges: tuple[Edge, ...]
    tiers: Mapping[int, str] = field(default_factory=dict)


def shape(n: int, links: Iterable[Edge], tiers: Mapping[int, str] | None = None) -> Shape:
    """Return a shape with its links in order, each pair once and no node linked to itself."""
    edges = sorted({edge(a, b) for a, b in links if a != b})
    return Shape(n, tuple(edges), tiers or {})


def edge(a: int, b: int) -> Edge:
    """Return a pair with the smaller number first."""
    return (a, b) if a < b else (b, a)
