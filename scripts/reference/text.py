"""Format Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; bars and line breaks in cells are kept from breaking it."""
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for row in rows:
        cells = (str(cell).replace("|", "\\|").replace("\n", " ") for cell in row)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def code(value: object) -> str:
    """Return a value as inline code; nothing stays nothing."""
    text = str(value)
    return f"`{text}`" if text else ""


def anchor(name: str) -> str:
    """Return the anchor of a heading: small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def heading(level: int, name: str) -> str:
    """Return a heading in code font."""
    return f"{'#' * level} `{name}`\n"
