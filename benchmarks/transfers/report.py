"""Format a series of transfers with kills. Pure: a record in, text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.tables import table

__all__ = ["sections"]

_INTRO = """\
Transfers in a ring of 6 nodes with a process each: to one address, to a group, and several at once. A
sender, a receiver or a relay is killed with SIGKILL at a random moment and restarted; all draws come from
seed {seed}. *Verified* counts receivers that sender or receiver reported as complete and whose file on disk
has the right digest. *Failed with a reason* counts receivers that did not complete and whose result says why.
*Unproven* counts receivers that were complete when they were killed, before the file was written. A fault is
a receiver that was reported as complete and was not, or a transfer that did not end within its limit.
"""

Record = Mapping[str, Any]
Case = Mapping[str, Any]


def sections(record: Record) -> list[str]:
    """Return a series as sections of a page."""
    cases: Sequence[Case] = record["cases"]
    pairs = sorted({(case["kind"], case["victim"]) for case in cases})
    lines = [
        _line(kind, victim, [case for case in cases if (case["kind"], case["victim"]) == (kind, victim)])
        for kind, victim in pairs
    ]
    lines.append(_line("all", "", cases))
    header = (
        "Transfers",
        "Killed",
        "Kills",
        "Transfers",
        "verified",
        "failed with a reason",
        "unproven",
        "faults",
    )
    parts = [
        "### Results of the transfers\n",
        _INTRO.format(seed=record["seed"]),
        table(header, lines, right=frozenset(range(2, len(header)))),
    ]
    faults = [f"- {case['case']}: {fault}" for case in cases for fault in case["faults"]]
    return [*parts, "### Faults\n", "\n".join(faults) + "\n"] if faults else parts


def _line(kind: str, victim: str, here: Sequence[Case]) -> list[str]:
    sums = [sum(case[name] for case in here) for name in ("transfers", "verified", "named", "unproven")]
    faults = sum(len(case["faults"]) for case in here)
    return [kind, victim, str(len(here)), *map(str, sums), str(faults)]
