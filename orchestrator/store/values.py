"""Adapt values for Postgres, which refuses some that JSON and Python allow."""

from __future__ import annotations

import json
import math
from typing import Any

__all__ = ["jsonb", "text"]


def jsonb(value: Any) -> Any:
    """Return a value for a `jsonb` place; what JSON cannot hold is written as text, or as null.

    It is written as JSON here and now: later changes of it do not matter, and a value that cannot be written
    fails the caller instead of the store.

    Raises:
        ValueError: It is nested too deeply, or contains itself.
    """
    from psycopg.types.json import Jsonb

    try:
        return Jsonb(_dumps(value), dumps=_unescaped)
    except RecursionError:
        raise ValueError("the value is nested too deeply to be stored") from None


def text(value: str | None) -> str | None:
    """Return text for a `text` place, which cannot hold the character 0."""
    return None if value is None else value.replace("\0", "�")


def _unescaped(encoded: str) -> str:
    return encoded


def _dumps(value: Any) -> str:
    try:
        encoded = json.dumps(value, ensure_ascii=False, allow_nan=False)
        if "\\u0000" not in encoded and (encoded.isascii() or encoded.encode()):
            return encoded
    except (TypeError, ValueError):  # bytes, NaN, half of a surrogate pair
        pass
    return json.dumps(_fit(value), ensure_ascii=False, allow_nan=False)


def _fit(value: Any) -> Any:
    if isinstance(value, str):
        # Half of a surrogate pair is no text for Postgres either.
        return value.replace("\0", "�").encode("utf-8", "replace").decode()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {_fit(str(key)): _fit(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_fit(each) for each in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return _fit(str(value))
