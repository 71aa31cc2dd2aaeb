"""Format the record of a fidelity run. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.tables import table

__all__ = ["sections"]

_VERDICTS = {True: "kept", False: "MISSED", None: "not measured"}


def sections(record: Mapping[str, Any]) -> list[str]:
    """Return the sections of a record: a table with a column for each kind of link, and what is missing."""
    rows = record["fidelity"]
    links = list(dict.fromkeys(link for row in rows for link in row["links"]))
    lines = [[row["title"], row["bar"], *(_cell(row["links"].get(link)) for link in links)] for row in rows]
    notes = sorted(
        {
            f"- {row['title']}, {link}: {found['reason']}"
            for row in rows
            for link, found in row["links"].items()
            if found["reason"] and not found["reason"].startswith("not applied")
        }
    )
    rounds = record["settings"]["rounds"]
    parts = [
        "### Requested and measured\n",
        f"Medians of {rounds} round{'s' if rounds != 1 else ''}. "
        "References shape the rate alone and are no part of the verdict: their "
        "token buckets count 14 bytes of Ethernet per packet, and have a burst of 4 ms of the rate.\n",
        table(("Requested", "Bar", *links), lines),
    ]
    if notes:
        parts += ["### Not measured\n", "\n".join(notes) + "\n"]
    return parts


def _cell(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "–"
    if not found["values"]:
        return "not applied" if found["reason"].startswith("not applied") else _VERDICTS[None]
    values = ", ".join(f"{name} {value:.4g}" for name, value in found["values"].items())
    if found.get("inside_95") is not None:
        values += f", inside 95 %: {'yes' if found['inside_95'] else 'no'}"
    return f"{values}: {_VERDICTS[found['ok']]}"
