"""Draw victim, moment and repair of every kill from one seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import product

__all__ = ["PHASES", "VICTIMS", "Kill", "draw"]

PHASES = ("up", "idle", "run", "down")
VICTIMS = ("nm", "host", "controller", "postgres")

_COMMANDS = {
    "up": ("up",),
    "idle": ("status", "exec", "link", "inspect"),
    "run": ("weights-sync", "pingall"),
    "down": ("down",),
}


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill.

    Attributes:
        number: Its place in the series, from 1.
        phase: Phase of the lab: `up`, `idle`, `run` or `down`.
        victim: The process that is killed: `nm` itself, `host`, `controller` or `postgres`.
        command: The command or scenario that is running; not started when the lab is idle
            and the victim is not `nm`.
        moment: When, as a share of the usual duration of the command.
        repair: Whether `nm up` follows, or `nm down`.
    """

    number: int
    phase: str
    victim: str
    command: str
    moment: float
    repair: bool

    def __str__(self) -> str:
        then = "up" if self.repair else "down"
        return f"{self.number} {self.phase}/{self.command} {self.victim} at {self.moment:.2f}, then {then}"


def draw(kills: int, seed: int) -> list[Kill]:
    """Draw a series in which every victim is killed in every phase about equally often, in random order."""
    chance = random.Random(seed)
    pairs = list(product(PHASES, VICTIMS))
    order: list[tuple[str, str]] = []
    while len(order) < kills:
        chance.shuffle(pairs)
        order += pairs
    return [
        Kill(
            number=number,
            phase=phase,
            victim=victim,
            command=chance.choice(_COMMANDS[phase]),
            moment=chance.random(),
            repair=chance.random() < 0.5,
        )
        for number, (phase, victim) in enumerate(order[:kills], 1)
    ]
