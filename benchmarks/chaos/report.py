"""Format a series of kills as tables. Pure: a record in, text out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.chaos.draw import PHASES, VICTIMS
from benchmarks.tables import table

__all__ = ["CLEAN", "DOWN", "ITSELF", "REPAIRED", "WAYS", "sections", "text"]

ITSELF = "ready by itself"
REPAIRED = "named, `up` mends just that"
DOWN = "named, `down` leaves nothing"
CLEAN = "command ends by name and leaves nothing"

WAYS = (ITSELF, REPAIRED, DOWN, CLEAN)
"""The ends that a kill may have, as records name them."""

_TITLES = {REPAIRED: "named, `up` restarts just that"}

Record = Mapping[str, Any]
Kill = Mapping[str, Any]


def text(record: Record) -> str:
    """Return a series as it is printed at its end."""
    return "\n".join(sections(record))


def sections(record: Record) -> list[str]:
    """Return a series as the parts of a page."""
    kills: Sequence[Kill] = record["kills"]
    late = sum(not kill["hit"] for kill in kills)
    intro = (
        f"One part of a native ring of 4 nodes that starts nothing again is killed with SIGKILL at a random "
        f"moment, again and again; every draw comes from seed {record['seed']}. {len(kills) - late} kills; "
        f"in {late} more draws the command had ended before its part could be killed.\n"
    )
    parts = [
        "### How the kills ended\n",
        intro,
        _ways(kills),
        "### What followed, in order\n",
        _followed(kills),
    ]
    faults = [f"- {kill['kill']}: {fault}" for kill in kills for fault in kill["faults"]]
    if faults:
        parts += ["### Faults\n", "\n".join(faults) + "\n"]
    return parts


def _ways(kills: Sequence[Kill]) -> str:
    lines = [_ways_line(phase, victim, here) for phase, victim, here in _pairs(kills)]
    lines.append(_ways_line("all", "", [kill for kill in kills if kill["hit"]]))
    header = (
        "Phase",
        "Killed",
        "Kills",
        *(_TITLES.get(way, way) for way in WAYS),
        "hung",
        "left something",
        "other faults",
    )
    return table(header, lines, right=frozenset(range(2, len(header))))


def _ways_line(phase: str, victim: str, here: Sequence[Kill]) -> list[str]:
    sound = Counter(kill["way"] for kill in here if not kill["faults"])
    hung = sum(any("hung" in name for name in kill["names"]) for kill in here)
    left = sum(any(fault.startswith("left") for fault in kill["faults"]) for kill in here)
    other = sum(bool(kill["faults"]) for kill in here) - hung - left
    counts = [len(here), *(sound[way] for way in WAYS), hung, left, max(0, other)]
    return [phase, victim, *map(str, counts)]


def _followed(kills: Sequence[Kill]) -> str:
    lines = []
    for phase, victim, here in _pairs(kills):
        ways = Counter(" → ".join(kill["names"]) for kill in here)
        lines += [[phase, victim, str(count), way] for way, count in ways.most_common()]
    return table(("Phase", "Killed", "Times", "Commands and states"), lines, right=frozenset({2}))


def _pairs(kills: Sequence[Kill]) -> list[tuple[str, str, list[Kill]]]:
    found = []
    for phase in PHASES:
        for victim in VICTIMS:
            here = [
                kill for kill in kills if (kill["phase"], kill["victim"]) == (phase, victim) and kill["hit"]
            ]
            if here:
                found.append((phase, victim, here))
    return found
