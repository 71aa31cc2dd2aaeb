"""Runs and sweeps as HTML, for notebooks. Every text of a run is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from orchestrator.results.tables import ResultTable, tables

__all__ = ["document_html", "table_html"]

_COLOURS = {"pass": "#15803d", "fail": "#b91c1c", "error": "#b91c1c"}


def document_html(document: Mapping[str, Any], rows: Sequence[Mapping[str, Any]] = ()) -> str:
    """Return what `run.json` or `sweep.json` says: verdict, reason, checks and tables."""
    verdict = str(document.get("verdict", ""))
    name = str(document.get("run") or document.get("sweep") or "")
    seconds = document.get("seconds")
    head = f'<b style="color:{_COLOURS.get(verdict, "inherit")}">{escape(verdict)}</b> {escape(name)}'
    if isinstance(seconds, int | float):
        head += f" · {seconds:.1f} s"
    parts = [f"<p>{head}</p>"]
    if reason := document.get("reason"):
        parts.append(f"<p>{escape(str(reason))}</p>")
    if checks := document.get("checks"):
        lines = (f"{'✓' if c['ok'] else '✗'} {escape(c['name'])}: {escape(c['detail'])}" for c in checks)
        parts.append(f"<p>{'<br>'.join(lines)}</p>")
    parts += [table_html(each) for each in tables(str(document.get("scenario", "")), rows)]
    return "\n".join(parts)


def table_html(table: ResultTable) -> str:
    """Return a table."""
    head = "".join(f"<th>{escape(each)}</th>" for each in table.columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows
    )
    note = f"<p>{escape(table.note)}</p>" if table.note else ""
    title = f"<caption>{escape(table.title)}</caption>" if table.title else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}"
