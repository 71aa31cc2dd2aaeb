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
"""The expected results of a kill, as records store them."""

_TITLES = {
    ITSELF: "still ready",
    REPAIRED: "reported by status, `up` restarts only it",
    DOWN: "reported by status, `down` leaves nothing",
    CLEAN: "command reports its result, nothing left",
}

Record = Mapping[str, Any]
Kill = Mapping[str, Any]


def text(record: Record) -> str:
    """Return a series as printed at its end."""
    return "\n".join(sections(record))


def sections(record: Record) -> list[str]:
    """Return a series as sections of a page."""
    kills: Sequence[Kill] = record["kills"]
    late = sum(not kill["hit"] for kill in kills)
    intro = (
        "Parts of a native ring of 4 nodes that restarts nothing (`nm up --no-restart`) are killed with "
        f"SIGKILL at random moments, one at a time; all draws come from seed {record['seed']}. "
        f"{len(kills) - late} kills; in {late} more draws the command had ended before its part could be "
        "killed.\n"
    )
    parts = [
        "### Results of the kills\n",
        intro,
        _ways(kills),
        "### Commands and states after each kill\n",
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
        "leftovers",
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
