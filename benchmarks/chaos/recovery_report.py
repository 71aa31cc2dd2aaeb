"""Format the recovery of a lab after SIGKILL to its parts. Pure: a record in, text out."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.tables import table

__all__ = ["sections", "text"]

_INTRO = """\
Parts of a ring of 4 nodes ({backend} backend) are killed with SIGKILL, one at a time, while the lab is idle
or a run is in progress; all draws come from seed {seed}. No command repairs the lab. A kill counts as
*recovered* if, within {limit_s:g} s,

- the part runs again as a new process,
- `nm status` reports `ready` with all links up,

and if afterwards

- link settings, groups and rows of finished runs are as before the kill,
- every node reaches every other,
- a run in progress continued, or failed with a reason where a process with roles was killed.

The time runs from the kill to that `nm status`. In the native series kills of a part are delayed so that it
never reaches the number of failures after which it is not restarted.
"""

_RENAMED = {"went on": "continued", "failed by name": "failed with a reason"}
"""Values of older records, with the words used now."""

Record = Mapping[str, Any]
Kill = Mapping[str, Any]


def text(record: Record) -> str:
    """Return a series as printed at its end."""
    return "\n".join(sections(record))


def sections(record: Record) -> list[str]:
    """Return a series as sections of a page."""
    kills: Sequence[Kill] = [kill for kill in record["kills"] if kill["hit"]]
    intro = _INTRO.format(backend=record["backend"], seed=record["seed"], limit_s=record["limit_s"])
    pairs = list(dict.fromkeys((kill["phase"], kill["victim"]) for kill in kills))
    lines = [
        _line(phase, victim, [kill for kill in kills if (kill["phase"], kill["victim"]) == (phase, victim)])
        for phase, victim in sorted(pairs)
    ]
    lines.append(_line("all", "", kills))
    header = (
        *("Phase", "Killed", "Kills", "recovered", "not recovered in time", "other faults"),
        *("s, median", "s, longest", "run continued", "run failed with a reason"),
    )
    parts = [
        "### Recovery after SIGKILL\n",
        intro,
        table(header, lines, right=frozenset(range(2, len(header)))),
    ]
    faults = [f"- {kill['kill']}: {fault}" for kill in record["kills"] for fault in kill["faults"]]
    faults += [f"- at the end: {each}" for each in record.get("left", ())]
    return [*parts, "### Faults\n", "\n".join(faults) + "\n"] if faults else parts


def _line(phase: str, victim: str, here: Sequence[Kill]) -> list[str]:
    sound = [kill for kill in here if not kill["faults"]]
    late = sum(kill["seconds"] is None for kill in here)
    seconds = [kill["seconds"] for kill in here if kill["seconds"] is not None]
    runs = [_RENAMED.get(kill["run"], kill["run"]) for kill in here]
    return [
        *(phase, victim, str(len(here)), str(len(sound)), str(late), str(len(here) - len(sound) - late)),
        f"{statistics.median(seconds):.1f}" if seconds else "–",
        f"{max(seconds):.1f}" if seconds else "–",
        str(runs.count("continued")) if any(runs) else "",
        str(runs.count("failed with a reason")) if any(runs) else "",
    ]
