"""Draw transfers and kills from one seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import product

__all__ = ["KINDS", "NODES", "VICTIMS", "Case", "Transfer", "draw"]

NODES = 6
"""Nodes of the ring."""

KINDS = ("unicast", "group", "several")
VICTIMS = ("sender", "receiver", "relay")


@dataclass(frozen=True, slots=True)
class Transfer:
    """One transfer.

    Attributes:
        name: Unique name.
        source: The sending node.
        receivers: The receiving nodes.
        group: Whether it goes to a group or to the address of its only receiver.
        size: Bytes.
        receiver_first: Whether the receive calls are made before the sender starts.
    """

    name: str
    source: int
    receivers: tuple[int, ...]
    group: bool
    size: int
    receiver_first: bool


@dataclass(frozen=True, slots=True)
class Case:
    """Transfers at the same time, a kill, and transfers after it between the same nodes.

    Attributes:
        number: Its place in the series, from 1.
        kind: One of `KINDS`.
        victim: Which node of the first transfer is killed; a relay is between sender and receiver.
        node: The node that is killed.
        moment: When, in seconds after the transfers began.
        pause: Seconds until the node is restarted.
        transfers: Transfers in progress at the kill.
    """

    number: int
    kind: str
    victim: str
    node: int
    moment: float
    pause: float
    transfers: tuple[Transfer, ...]

    def __str__(self) -> str:
        when = f"at {self.moment:.2f} s, restarted after {self.pause:.2f} s"
        return f"{self.number} {self.kind}: {self.victim} {self.node} {when}"


def draw(cases: int, seed: int) -> list[Case]:
    """Draw a series in which every victim is killed in every kind about equally often, in random order."""
    chance = random.Random(seed)
    pairs = list(product(KINDS, VICTIMS))
    order: list[tuple[str, str]] = []
    while len(order) < cases:
        chance.shuffle(pairs)
        order += pairs
    return [_case(chance, number, *pair) for number, pair in enumerate(order[:cases], 1)]


def _case(chance: random.Random, number: int, kind: str, victim: str) -> Case:
    source = chance.randint(1, NODES)
    other = (source + 1) % NODES + 1  # two links further, so that a relay lies between
    relay = source % NODES + 1
    first = _transfer(chance, f"{number}.1", source, other, kind == "group")
    transfers = [first]
    if kind == "several":
        transfers.append(_transfer(chance, f"{number}.2", source, other, group=True))
        transfers.append(_transfer(chance, f"{number}.3", source, other, group=False))
    nodes = {"sender": source, "receiver": other, "relay": relay}
    return Case(
        number=number,
        kind=kind,
        victim=victim,
        node=nodes[victim],
        moment=chance.uniform(0.0, 0.6 if kind == "several" else 0.4),
        pause=chance.choice((0.0, chance.uniform(0.0, 1.0))),
        transfers=tuple(transfers),
    )


def _transfer(chance: random.Random, name: str, source: int, other: int, group: bool) -> Transfer:
    rest = [node for node in range(1, NODES + 1) if node not in (source, other)]
    more = chance.sample(rest, chance.randint(1, len(rest))) if group else []
    return Transfer(
        name=name,
        source=source,
        receivers=tuple(sorted([other, *more])),
        group=group,
        size=chance.randint(1, 8_000_000),
        receiver_first=chance.random() < 0.5,
    )
