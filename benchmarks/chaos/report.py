"""The table of a series: phase and victim against how it ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from benchmarks.chaos.draw import PHASES, VICTIMS
from benchmarks.chaos.labs import Outcome

__all__ = ["record", "table"]


def table(outcomes: Sequence[Outcome]) -> str:
    """Return the table as Markdown: kills, misses, and what followed, most frequent first."""
    lines = [
        "| Phase | Killed | Kills | Too late | Faults | What followed |",
        "| --- | --- | ---: | ---: | ---: | --- |",
    ]
    for phase in PHASES:
        for victim in VICTIMS:
            here = [each for each in outcomes if (each.kill.phase, each.kill.victim) == (phase, victim)]
            if here:
                lines.append(_row(phase, victim, here))
    hits = sum(each.hit for each in outcomes)
    faults = sum(bool(each.faults) for each in outcomes)
    lines.append(f"| all | | {hits} | {len(outcomes) - hits} | {faults} | |")
    return "\n".join(lines)


def record(outcome: Outcome) -> dict[str, object]:
    """Return one kill as JSON keeps it."""
    return {
        "kill": str(outcome.kill),
        "phase": outcome.kill.phase,
        "victim": outcome.kill.victim,
        "hit": outcome.hit,
        "names": outcome.names,
        "faults": outcome.faults,
    }


def _row(phase: str, victim: str, here: Sequence[Outcome]) -> str:
    ways = Counter(" → ".join(each.names) for each in here if each.hit)
    followed = "; ".join(f"{count} × {way}" for way, count in ways.most_common())
    hits = sum(each.hit for each in here)
    faults = sum(bool(each.faults) for each in here)
    return f"| {phase} | {victim} | {hits} | {len(here) - hits} | {faults} | {followed} |"
