"""The interfaces of a capture file: one per node, or three per direction of a link.

Packets of a link are recorded where its impairments are, at the node that sends them: what reaches the link,
what passes, and what it drops, with the cause as a comment. So before = after + dropped + what is on its way,
and after has the packets and bytes that the link's counters have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["MOST_SOURCES", "Interface", "Target", "link_interfaces", "node_interfaces"]

MOST_SOURCES = 16
"""Nodes and ends of links in one capture, and captures that one process serves at a time."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is captured: a node, or the link to another one where `remote` is given."""

    node: int
    remote: int | None = None

    @property
    def nodes(self) -> tuple[int, ...]:
        """The nodes whose processes record it."""
        return (self.node,) if self.remote is None else (self.node, self.remote)

    def __str__(self) -> str:
        return f"node-{self.node}" if self.remote is None else f"link-{self.node}-{self.remote}"


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface of a file.

    Attributes:
        name: What readers show.
        description: What is recorded, in words.
        node: The node whose process records it.
        point: What the process calls it: `node`, `refused`, `before`, `after` or `dropped`.
        remote: The neighbour, for the points of a link.
    """

    name: str
    description: str
    node: int
    point: str
    remote: int = 0

    def as_json(self, number: int) -> dict[str, object]:
        """Return it as a node takes it, with its number in the file."""
        wanted: dict[str, object] = {"number": number, "point": self.point}
        return wanted | ({"remote": self.remote} if self.remote else {})


def node_interfaces(node: int, name: Callable[[int], str]) -> list[Interface]:
    """Return the interfaces of a node.

    Args:
        node: Its number.
        name: The name of a node.
    """
    own = name(node)
    return [
        Interface(own, f"what programs in {own} send (outbound) and receive (inbound)", node, "node"),
        Interface(f"{own} dropped", f"packets that {own} dropped; comments say why", node, "refused"),
    ]


def link_interfaces(a: int, b: int, name: Callable[[int], str]) -> list[Interface]:
    """Return the interfaces of both directions of a link.

    Args:
        a: One end.
        b: The other.
        name: The name of a node.
    """
    found = []
    for source, to in ((a, b), (b, a)):
        way = f"{name(source)}>{name(to)}"
        said = f"{name(source)} to {name(to)}"
        found += [
            Interface(f"{way} before", f"{said}: before the emulation", source, "before", to),
            Interface(f"{way} after", f"{said}: after the emulation", source, "after", to),
            Interface(f"{way} dropped", f"{said}: dropped; comments say why", source, "dropped", to),
        ]
    return found
