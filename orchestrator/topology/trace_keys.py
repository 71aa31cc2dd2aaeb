"""How the key `trace` of a link is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.fields import Kind
from orchestrator.source import Problems, Value
from orchestrator.topology.traces import TraceUse

__all__ = ["FileName", "trace_use"]


class FileName(Kind):
    """The name of a file; handed on with its place, to be read when it is known what it is relative to."""

    expected = "the name of a file such as `down.mahi`"

    def read(self, value: Value, name: str, problems: Problems) -> Value | None:
        """Return the value itself if it could be a file."""
        if isinstance(value.data, str) and value.data and "\0" not in value.data:
            return value
        self.wrong(value, name, problems)
        return None

    def schema(self) -> dict[str, Any]:
        """Return the kind as JSON Schema."""
        return {"type": "string", "minLength": 1}


def trace_use(read: Mapping[str, Any]) -> TraceUse:
    """Return a trace and how it is played, from its table as read."""
    shift = read.get("shift")
    return TraceUse(
        file=read["file"].data,
        place=read["file"].place,
        loop=read.get("loop"),
        scale=float(read.get("scale", 1.0)),
        shift_us=shift.us if shift else 0,
        column=read.get("column"),
    )
