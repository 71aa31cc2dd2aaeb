"""Write a page about results from its template."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

__all__ = ["NAME", "write_page"]

NAME = "report.html"


def write_page(folder: Path, template: str, **values: Any) -> Path:
    """Write `report.html` in one step; return its path.

    Args:
        folder: Where to.
        template: The file of the template, beside this one.
        values: What the template shows; texts are escaped.

    Raises:
        OSError: The folder cannot be written.
    """
    page = _environment().get_template(template).render(**values)
    target, part = folder / NAME, folder / f".{NAME}.part"
    part.write_text(page, encoding="utf-8", errors="backslashreplace")
    part.replace(target)
    return target


@lru_cache(maxsize=1)
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader

    loader = FileSystemLoader(Path(__file__).parent)
    return Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
