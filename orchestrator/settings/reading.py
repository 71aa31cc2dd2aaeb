"""Read a settings file against its table, with the place of every problem."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from orchestrator.errors import SettingsInvalid
from orchestrator.fields import Field, Table
from orchestrator.source import Problems, parse_toml, read_text

__all__ = ["read_file", "read_table", "with_defaults"]


def read_file(path: Path | str) -> str:
    """Return a settings file's text.

    Raises:
        SettingsInvalid: The file is missing or cannot be read.
    """
    problems = Problems("settings")
    text = read_text(Path(path), str(path), problems)
    problems.raise_as(SettingsInvalid, str(path))
    return text or ""  # without a text there was a problem, so this is only ever an empty file


def read_table(text: str, file: str, table: Table) -> dict[str, Any]:
    """Return what a settings file says, defaults filled in.

    Raises:
        SettingsInvalid: With everything that is wrong, each with its place.
    """
    read = _attempt(text, file, table, places=False)
    if isinstance(read, Problems):
        read = _attempt(text, file, table, places=True)
    if isinstance(read, Problems):
        raise SettingsInvalid(read.in_order(), file=file)
    return table.fill(read)


def with_defaults(keys: Mapping[str, Field], of: type[Any]) -> dict[str, Field]:
    """Return a table's keys with the defaults of the class that is made from them."""
    plain = {field.name: field.default for field in fields(of) if isinstance(field.default, (bool, int, str))}
    return {
        key: field if isinstance(field.kind, Table) else replace(field, default=plain.get(key, field.default))
        for key, field in keys.items()
    }


def _attempt(text: str, file: str, table: Table, *, places: bool) -> dict[str, Any] | Problems:
    problems = Problems("settings")
    value = parse_toml(text, file, problems, places=places)
    read = table.read(value, file, problems) if value is not None else None
    return read if read is not None and not problems else problems
