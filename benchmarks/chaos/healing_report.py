"""Format a series of kills in a lab that restarts its parts. Pure: a record in, text out."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.tables import table

__all__ = ["sections", "text"]

_INTRO = """\
One part of a ring of 4 nodes on {backend} is killed with SIGKILL repeatedly, the lab idle or with a run
under way; every draw comes from seed {seed}. No command repairs the lab. A kill counts as *ready by itself*
when the part is another process and the lab's status is `ready` with all links up within {limit_s:g} s,
link settings made live, groups and rows of finished runs are as before, every node reaches every other, and
a run continued, or failed with the reason where the process of a role was killed. Seconds are from the kill
to the answer that says so. The native series stays below the number of failures after which a part is not
restarted.
"""

Record = Mapping[str, Any]
Kill = Mapping[str, Any]


def text(record: Record) -> str:
    """Return a series as it is printed at its end."""
    return "\n".join(sections(record))


def sections(record: Record) -> list[str]:
    """Return a series as the parts of a page."""
    kills: Sequence[Kill] = [kill for kill in record["kills"] if kill["hit"]]
    intro = _INTRO.format(backend=record["backend"], seed=record["seed"], limit_s=record["limit_s"])
    pairs = list(dict.fromkeys((kill["phase"], kill["victim"]) for kill in kills))
    lines = [
        _line(phase, victim, [kill for kill in kills if (kill["phase"], kill["victim"]) == (phase, victim)])
        for phase, victim in sorted(pairs)
    ]
    lines.append(_line("all", "", kills))
    header = (
        *("Phase", "Killed", "Kills", "ready by itself", "not ready in time", "other faults"),
        *("s, median", "s, longest", "run went on", "run failed by name"),
    )
    parts = ["### How the kills ended\n", intro, table(header, lines, right=frozenset(range(2, len(header))))]
    faults = [f"- {kill['kill']}: {fault}" for kill in record["kills"] for fault in kill["faults"]]
    faults += [f"- at the end: {each}" for each in record.get("left", ())]
    return [*parts, "### Faults\n", "\n".join(faults) + "\n"] if faults else parts


def _line(phase: str, victim: str, here: Sequence[Kill]) -> list[str]:
    sound = [kill for kill in here if not kill["faults"]]
    late = sum(kill["seconds"] is None for kill in here)
    seconds = [kill["seconds"] for kill in here if kill["seconds"] is not None]
    runs = [kill["run"] for kill in here]
    return [
        *(phase, victim, str(len(here)), str(len(sound)), str(late), str(len(here) - len(sound) - late)),
        f"{statistics.median(seconds):.1f}" if seconds else "–",
        f"{max(seconds):.1f}" if seconds else "–",
        str(runs.count("went on")) if any(runs) else "",
        str(runs.count("failed by name")) if any(runs) else "",
    ]
