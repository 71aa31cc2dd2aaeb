"""Read one direction of a link from the JSON of its row: its fields, or words of the topology file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from orchestrator.impairment import DISTRIBUTIONS, FIELDS, FieldKind, LinkSpec

__all__ = ["preload", "read_spec"]

_KEYS = frozenset({rule.key for rule in FIELDS.values()} | {"profile"})
"""The keys of a link in the topology file that state its impairments."""


def read_spec(column: str, value: str) -> tuple[LinkSpec, bool]:
    """Return one direction of a link, and whether it was written in the words of the topology file.

    Args:
        column: `forward`, `backward`, or what is in force in their place; a profile has two directions.
        value: The JSON: either fields such as `{"delay_us": 20000}`, or words such as `{"delay": "20 ms"}`.

    Raises:
        ValueError: It is neither, or no link can do that.
    """
    try:
        read = json.loads(value)
    except ValueError:
        raise ValueError("it has a number that is too large") from None
    if not isinstance(read, dict):
        raise ValueError("it is no object with the fields of a link")
    unknown = [name for name in read if name not in FIELDS and name not in _KEYS]
    if unknown:
        raise ValueError(f"`{unknown[0][:40]}` is no field of a link")
    in_words = any(_is_word(name, each) for name, each in read.items())
    spec = _from_words(column, read) if in_words else LinkSpec.from_wire(read)
    spec.check()
    return spec, in_words


def preload() -> None:
    """Import what reads words, so that the first link that is written in words does not wait for it."""
    import orchestrator.topology.links  # noqa: F401  # for its effect


def _is_word(name: str, value: Any) -> bool:
    """Tell whether an entry can only be in the words of the topology file."""
    rule = FIELDS.get(name)
    if rule is None:
        return True
    if name != rule.key or rule.kind is FieldKind.TEXT:
        return False
    return isinstance(value, dict) or (isinstance(value, str) and not rule.words)


def _from_words(column: str, read: Mapping[str, Any]) -> LinkSpec:
    # Only where it is needed: reading words needs the whole language of the topology file.
    from orchestrator.errors import LinkChangeInvalid
    from orchestrator.topology.links import read_values

    fields = [name for name in read if name not in _KEYS]
    if fields:
        raise ValueError(f"`{fields[0]}` is a field; words of the topology file cannot stand beside it")
    jitter = read.get("jitter")
    shape = jitter.get("distribution") if isinstance(jitter, dict) else None
    if "trace" in read or (shape is not None and shape not in DISTRIBUTIONS):
        raise ValueError("files are not read for SQL; use `nm link set`")
    try:
        change = read_values(read, column)
    except LinkChangeInvalid as error:
        raise ValueError(error.message) from None
    return change.backward if column.startswith("backward") else change.forward
