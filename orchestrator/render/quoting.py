"""Quote values for TOML and compose files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["compose", "toml"]


def toml(value: Any) -> str:
    """Return a value as TOML, tables and lists inline.

    Raises:
        TypeError: TOML has no such value.

    Example:
        >>> toml({"loss": 0.1, "name": 'a"b'})
        '{ loss = 0.1, name = "a\\\\"b" }'
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        # JSON's escapes are all TOML's too; JSON lets DEL stand, TOML does not.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        items = ", ".join(f"{_key(key)} = {toml(below)}" for key, below in value.items())
        return f"{{ {items} }}" if items else "{}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    raise TypeError(f"TOML has no {type(value).__name__}")


def compose(value: Any) -> str:
    """Return a value as one line of YAML; `$` is doubled, as Compose would put a variable there."""
    return json.dumps(value, ensure_ascii=False).replace("$", "$$").replace("\x7f", "\\u007f")


def _key(key: str) -> str:
    plain = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
    return key if plain else toml(key)
