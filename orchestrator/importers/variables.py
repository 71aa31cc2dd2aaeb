"""Put variables into the values of a compose file, as Compose does: `$NAME`, `${NAME:-default}` and so on.

Values come from the environment, else from the file `.env` beside the compose file.

Source:
    https://docs.docker.com/reference/compose-file/interpolation/
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.source import Problems, Value, read_text

__all__ = ["Variables", "read_variables"]

_VARIABLE = re.compile(
    r"\$(?:(?P<dollar>\$)|(?P<plain>[A-Za-z_]\w*)|\{(?P<name>[A-Za-z_]\w*)(?:\}|(?P<how>:?[-?+])))"
)
"""A variable; after `how` follows a word that ends with the matching brace and may hold variables itself."""

_DEEPEST = 32
"""Variables within the words of variables: more than anybody writes, and bounded for files of others."""


@dataclass(slots=True)
class Variables:
    """Variables by name, and which of them were used or missing."""

    known: Mapping[str, str]
    used: dict[str, None] = field(default_factory=dict)
    missing: dict[str, None] = field(default_factory=dict)

    def put_into(self, value: Value) -> Value:
        """Return a value with every variable in it and below it replaced."""
        if value.mapping is not None:
            read = {key: self.put_into(below) for key, below in value.mapping.items()}
            return Value(read, value.place, value.text, value.keys)
        if value.sequence is not None:
            return Value([self.put_into(item) for item in value.sequence], value.place, value.text)
        if not isinstance(value.data, str) or "$" not in value.data:
            return value
        text = self._put_into_text(value.data)
        return Value(text, value.place, text[:60])

    def _put_into_text(self, text: str, depth: int = 0) -> str:
        parts: list[str] = []
        at = 0
        while match := _VARIABLE.search(text, at):
            end = match.end() if match["how"] is None else _end_of_word(text, match.end())
            parts.append(text[at : match.start()])
            if end is None or depth > _DEEPEST:
                parts.append(text[match.start() : match.end()])  # no variable: it stays as it is
                end = match.end()
            else:
                parts.append(self._replace(match, text[match.end() : end - 1], depth))
            at = end
        return "".join((*parts, text[at:]))

    def _replace(self, match: re.Match[str], word: str, depth: int) -> str:
        if match["dollar"]:
            return "$"
        name, how = match["plain"] or match["name"], match["how"] or ""
        found = self.known.get(name)
        is_set = found is not None and not (how.startswith(":") and not found)
        if how.endswith("+"):
            return self._put_into_text(word, depth + 1) if is_set else ""
        if is_set and found is not None:
            self.used[name] = None
            return found
        if not how.endswith("-"):
            self.missing[name] = None
        return self._put_into_text(word, depth + 1) if how.endswith("-") else ""


def _end_of_word(text: str, start: int) -> int | None:
    """Return the position behind the brace that ends a word; None if none does."""
    depth = 1
    for at in range(start, len(text)):
        if text[at] == "}":
            depth -= 1
        elif text[at] == "{" and text[at - 1] == "$":
            depth += 1
        if depth == 0:
            return at + 1
    return None


def read_variables(folder: Path) -> Variables:
    """Return the variables of the environment, over those of a folder's `.env`."""
    text = read_text(folder / ".env", ".env", Problems("import")) or ""
    known: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and re.fullmatch(r"[A-Za-z_]\w*", name.strip()):
            value = value.strip()
            quoted = len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'"
            known[name.strip()] = value[1:-1] if quoted else re.split(r"\s#", value)[0].strip()
    return Variables({**known, **os.environ})
