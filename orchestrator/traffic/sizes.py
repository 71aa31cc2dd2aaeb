"""Flow sizes: published distributions, tables of one's own, and fixed sizes.

A distribution is a piecewise linear CDF: between two points, sizes are equally likely.
"""

from __future__ import annotations

import csv
import io
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random  # reading a scenario needs none

__all__ = ["PUBLISHED", "Sizes", "SizesInvalid", "fixed", "from_table"]

_PACKET = 1460
_MOST_POINTS = 10_000


class SizesInvalid(ValueError):
    """A table is no distribution of flow sizes.

    Attributes:
        line: The line of the table, 0 for the whole.
        expected: What would be right.
    """

    def __init__(self, reason: str, line: int = 0, expected: str = "") -> None:
        super().__init__(reason)
        self.line = line
        self.expected = expected


@dataclass(frozen=True, slots=True)
class Sizes:
    """A distribution of flow sizes.

    Attributes:
        points: Sizes in bytes with the share of flows that are not larger, in order; the last share is 1.
    """

    points: tuple[tuple[float, float], ...]

    @property
    def mean(self) -> float:
        """The mean size in bytes."""
        first, share = self.points[0]
        total = first * share
        for (low, below), (high, above) in zip(self.points, self.points[1:], strict=False):
            total += (above - below) * (low + high) / 2
        return total

    def quantile(self, share: float) -> float:
        """The size that this share of the flows does not exceed."""
        index = bisect_left([point[1] for point in self.points], share)
        if index == 0:
            return self.points[0][0]
        index = min(index, len(self.points) - 1)
        (low, below), (high, above) = self.points[index - 1], self.points[index]
        return high if above == below else low + (high - low) * (share - below) / (above - below)

    def draw(self, stream: Random) -> int:
        """Draw a size."""
        return max(1, round(self.quantile(stream.random())))


def fixed(size: int) -> Sizes:
    """The distribution of flows that all have one size."""
    return Sizes(((float(size), 1.0),))


def from_table(text: str) -> Sizes:
    """Read a CSV of size (bytes) and cdf (share of the flows that are not larger), with or without a head.

    Raises:
        SizesInvalid: It is no CDF.
    """
    points: list[tuple[float, float]] = []
    for number, row in enumerate(csv.reader(io.StringIO(text)), 1):
        if not row or row[0].lstrip().startswith("#"):
            continue
        try:
            size, share = (float(cell) for cell in row)
        except ValueError:
            if not points and [cell.strip().lower() for cell in row] == ["size", "cdf"]:
                continue
            raise SizesInvalid(f"`{','.join(row)[:60]}` is not a size and a share", number) from None
        _check(size, share, points, number)
        points.append((size, share))
    if not points or points[-1][1] != 1:
        last = points[-1][1] if points else "missing"
        raise SizesInvalid(f"the last share is {last}", expected="1, so that every flow has a size")
    return Sizes(tuple(points))


def _check(size: float, share: float, points: Sequence[tuple[float, float]], number: int) -> None:
    if not 1 <= size <= 1e12:
        raise SizesInvalid(f"the size {size:g} is out of bounds", number, "bytes from 1 to 10^12")
    if not 0 <= share <= 1:
        raise SizesInvalid(f"the share {share:g} is out of bounds", number, "a share from 0 to 1")
    if points and (size < points[-1][0] or share < points[-1][1]):
        what, now, before = (
            ("size", size, points[-1][0]) if size < points[-1][0] else ("share", share, points[-1][1])
        )
        raise SizesInvalid(
            f"the {what} {now:g} comes after {before:g}", number, "sizes and shares that do not decrease"
        )
    if len(points) >= _MOST_POINTS:
        raise SizesInvalid(f"there are more than {_MOST_POINTS} points", number)


def _packets(*points: tuple[int, float]) -> Sizes:
    return Sizes(tuple((float(packets * _PACKET), share) for packets, share in points))


# The points are those that published simulations of data centers commonly use, in packets of 1460 bytes. They
# approximate the curves: the papers publish no tables, and sizes within a packet are not told apart. They
# were not compared with the figures.
PUBLISHED: Mapping[str, Sizes] = {
    # Alizadeh et al., "Data Center TCP (DCTCP)", SIGCOMM 2010, figure 4: a cluster that answers web searches.
    "web-search": _packets(
        (6, 0.0),
        (6, 0.15),
        (13, 0.2),
        (19, 0.3),
        (33, 0.4),
        (53, 0.53),
        (133, 0.6),
        (667, 0.7),
        (1333, 0.8),
        (3333, 0.9),
        (6667, 0.97),
        (20000, 1.0),
    ),
    # Greenberg et al., "VL2: A Scalable and Flexible Data Center Network", SIGCOMM 2009, figure 2:
    # a cluster for data mining.
    "data-mining": _packets(
        (1, 0.0),
        (1, 0.5),
        (2, 0.6),
        (3, 0.7),
        (7, 0.8),
        (267, 0.9),
        (2107, 0.95),
        (66667, 0.99),
        (666667, 1.0),
    ),
}
"""Distributions from papers, by name."""
