"""What the readers of YAML files share: the document, and values that are or are not what is expected."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from orchestrator.errors import ImportInvalid, Place
from orchestrator.source import Problems, Value, named, parse_yaml, read_text

__all__ = ["entries", "items", "raise_problems", "read_document", "text_of", "wrong"]


def read_document(path: str | os.PathLike[str], problems: Problems, *, needs: str, what: str) -> Value:
    """Return the mapping that a YAML file holds.

    Args:
        path: The file; `-` is standard input.
        problems: Takes what is wrong.
        needs: A key that such a file has.
        what: What such a file is, for messages.

    Raises:
        ImportInvalid: It is not YAML, or not such a file.
    """
    shown = named(path)
    text = read_text(Path(path), shown, problems)
    value = parse_yaml(text, shown, problems) if text is not None else None
    if value is not None and value.mapping is None:
        wrong(value, "the file", "a mapping", problems)
    elif value is not None and value.get(needs) is None:
        problems.add(
            f"the file has no key `{needs}`",
            "format",
            Place(shown),
            expected=what,
            hint=f"{what} is expected",
        )
    problems.raise_as(ImportInvalid, shown)
    if value is None:  # `read_text` and `parse_yaml` say why there is none
        raise AssertionError("no document and no problem")
    return value


def raise_problems(problems: Problems, file: str) -> None:
    """Raise what was noted, if anything."""
    problems.raise_as(ImportInvalid, file)


def wrong(value: Value, name: str, expected: str, problems: Problems) -> None:
    """Note that a value is not what is expected."""
    problems.add(
        f"{name} is {value.describe()}, but {expected} is expected",
        "type",
        value.place,
        found=value.text or None,
        expected=expected,
    )


def entries(value: Value | None, name: str, problems: Problems) -> Iterator[tuple[str, Value]]:
    """Yield the keys and values of a mapping; nothing where there is no value."""
    if value is None or value.data is None:
        return
    if value.mapping is None:
        wrong(value, name, "a mapping", problems)
        return
    yield from value.mapping.items()


def items(value: Value | None, name: str, problems: Problems) -> Iterator[Value]:
    """Yield the items of a list; nothing where there is no value."""
    if value is None or value.data is None:
        return
    if value.sequence is None:
        wrong(value, name, "a list", problems)
        return
    yield from value.sequence


def text_of(value: Value | None) -> str:
    """Return a text or number as text; empty for everything else."""
    if value is None or value.data is None or isinstance(value.data, (list, dict)):
        return ""
    return str(value.data).lower() if isinstance(value.data, bool) else str(value.data)
