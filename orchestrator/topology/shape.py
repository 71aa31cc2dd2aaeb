"""The shape of a generated topology: nodes that are numbered from 1, and pairs of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

__all__ = ["Edge", "Shape", "edge", "shape"]

Edge = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Shape:
    """What a generator makes: nodes with numbers up to `n`, their links, and `tier` labels if it has tiers.

    Attributes:
        without: Numbers that no node has.
    """

    n: int
    edges: tuple[Edge, ...]
    tiers: Mapping[int, str] = field(default_factory=dict)
    without: frozenset[int] = frozenset()

    @property
    def numbers(self) -> list[int]:
        """The numbers of the nodes, in order."""
        return [number for number in range(1, self.n + 1) if number not in self.without]

    def leave_out(self, numbers: frozenset[int]) -> Shape:
        """Return it without some nodes and their links."""
        edges = tuple(edge for edge in self.edges if numbers.isdisjoint(edge))
        return Shape(self.n, edges, self.tiers, numbers)


def shape(n: int, links: Iterable[Edge], tiers: Mapping[int, str] | None = None) -> Shape:
    """Return a shape with its links in order, each pair once and no node linked to itself."""
    edges = sorted({edge(a, b) for a, b in links if a != b})
    return Shape(n, tuple(edges), tiers or {})


def edge(a: int, b: int) -> Edge:
    """Return a pair with the smaller number first."""
    return (a, b) if a < b else (b, a)
