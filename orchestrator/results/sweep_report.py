"""Write `report.html` of a sweep: verdict, table, plot, and every run with a link to its own page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.results.drawing import inline
from orchestrator.results.pages import NAME, write_page
from orchestrator.results.sweep_table import shown_table

__all__ = ["write"]


@dataclass(frozen=True)
class _Run:
    """A run as the page lists it; `page` is the relative address of its own page, empty if it has none."""

    name: str
    page: str
    values: tuple[str, ...]
    repetition: int
    verdict: str
    seconds: str
    reason: str


def write(folder: Path, document: Mapping[str, Any]) -> Path:
    """Write the page about a sweep; return its path.

    Args:
        folder: The sweep's.
        document: What `sweep.json` holds, or the same of a sweep that was interrupted.

    Raises:
        OSError: The folder cannot be written.
    """
    axes = [str(axis["key"]) for axis in document.get("axes", [])]
    return write_page(
        folder,
        "sweep.html.j2",
        document=document,
        title=str(document.get("sweep") or folder.name),
        verdict=str(document.get("verdict") or "unknown"),
        facts=list(_facts(document)),
        table=shown_table(document),
        plots=list(_plots(folder, document)),
        axes=axes,
        runs=list(_runs(folder, document, axes)),
    )


def _facts(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    seconds, params = document.get("seconds"), document.get("params") or {}
    yield "scenario", str(document.get("scenario", ""))
    yield "started", str(document.get("started", ""))
    yield "seed", str(document.get("seed", ""))
    yield "runs", f"{len(document.get('runs', []))} of {len(document.get('order', []))}"
    if isinstance(seconds, int | float):
        yield "took", f"{seconds:.1f} s"
    if params:
        yield "parameters", ", ".join(f"{key}={value}" for key, value in params.items())


def _plots(folder: Path, document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The names and pictures of the plots that can be read."""
    for number, file in enumerate(document.get("plots") or []):
        if str(file).endswith(".svg"):
            with suppress(OSError, ValueError):
                yield str(file), inline((folder / file).read_text(encoding="utf-8"), f"plot-{number}")


def _runs(folder: Path, document: Mapping[str, Any], axes: list[str]) -> Iterator[_Run]:
    for entry in document.get("runs", []):
        name = Path(str(entry["results"])).name
        broken = "; ".join(f"{each['name']}: {each['detail']}" for each in entry["checks"] if not each["ok"])
        yield _Run(
            name,
            _page(folder, name),
            tuple(str(entry["params"].get(key, "")) for key in axes),
            entry["repetition"],
            entry["verdict"],
            f"{entry['seconds']:.1f}",
            str(entry["reason"] or broken),
        )
    for entry in document.get("missing", []):
        name = str(entry["name"])
        values = tuple(str(entry["params"].get(key, "")) for key in axes)
        yield _Run(
            name, _page(folder, name), values, entry["repetition"], "missing", "", str(entry["reason"])
        )


def _page(folder: Path, name: str) -> str:
    return f"{name}/{NAME}" if (folder / name / NAME).is_file() else ""
