"""Render a deployment plan to files: templates without decisions, and a manifest of what was written.

These files are written before any socket, namespace or container exists; `nm render FILE -o DIR` shows them.
"""

from __future__ import annotations

from orchestrator.render.files import RenderedFile, render
from orchestrator.render.writing import RunDirectory, update, write

__all__ = ["RenderedFile", "RunDirectory", "render", "update", "write"]
