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
    r"\$(?:(?P<dollar>\$)|(?P<plain>[A-Za-z_]\w*)"
    r"|\{(?P<name>[A-Za-z_]\w*)(?:(?P<how>:?[-?+])(?P<word>[^{}]*))?\})"
)


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
        text = _VARIABLE.sub(self._replace, value.data)
        return Value(text, value.place, text[:60])

    def _replace(self, match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        name, how, word = match["plain"] or match["name"], match["how"] or "", match["word"] or ""
        found = self.known.get(name)
        is_set = found is not None and not (how.startswith(":") and not found)
        if how.endswith("+"):
            return word if is_set else ""
        if is_set and found is not None:
            self.used[name] = None
            return found
        if not how.endswith("-"):
            self.missing[name] = None
        return word if how.endswith("-") else ""


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
