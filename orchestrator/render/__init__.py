"""From a plan to files: templates without decisions, and a manifest that proves what was written.

Nothing touches a socket, a namespace or an engine before these files are there; whoever wants to know what
`nm up` is going to do can read them (`nm render FILE -o DIR`).
"""

from __future__ import annotations

from orchestrator.render.files import RenderedFile, render
from orchestrator.render.writing import RunDirectory, write

__all__ = ["RenderedFile", "RunDirectory", "render", "write"]
