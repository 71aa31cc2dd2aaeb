"""Tables and numbers in text, for the terminal and the documentation alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["number", "table"]


def table(
    header: Sequence[str], lines: Iterable[Sequence[str]], *, right: frozenset[int] = frozenset()
) -> str:
    """Return a Markdown table with padded columns, readable as plain text too.

    Args:
        header: Titles of the columns.
        lines: The cells of each line; `|` inside one is escaped.
        right: Numbers of the columns to align right.
    """
    body = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    widths = [max(len(line[i]) for line in [list(header), *body]) for i in range(len(header))]

    def padded(line: Sequence[str]) -> str:
        cells = (
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        return "| " + " | ".join(cells) + " |"

    rule = ("-" * (w - 1) + ":" if i in right else "-" * w for i, w in enumerate(max(w, 3) for w in widths))
    widths = [max(w, 3) for w in widths]
    return "\n".join([padded(header), "| " + " | ".join(rule) + " |", *map(padded, body)]) + "\n"


def number(value: float | None, unit: str = "") -> str:
    """Return a number with about three significant digits and its unit; a dash for None."""
    if value is None:
        return "–"
    size = abs(value)
    digits = 0 if size >= 100 or value == int(value) else 1 if size >= 10 else 2 if size >= 1 else 3
    shown = f"{value:,.{digits}f}"
    if size < 1 and shown.endswith("0") and shown.count(".") == 1:
        shown = shown[:-1]  # 0.60 reads better than 0.600, and 0.6 would look rounded
    return f"{shown} {unit}" if unit and unit != "ratio" else shown
