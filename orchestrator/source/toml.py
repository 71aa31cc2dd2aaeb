"""Build a tree of values with places from TOML text.

`tomllib` parses the text but does not keep positions, so a small scanner walks the same text again and
records the line and column of every key. It may assume valid TOML: it only runs after `tomllib` has accepted
the text. Values inside an inline table or an array take the place of the value that contains them.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import Place
from orchestrator.source.tree import Problems, Value

__all__ = ["parse_toml"]

_POSITION = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}' r"|'''.*?'{3,5}" r'|"(?:\\.|[^"\\\n])*"' r"|'[^'\n]*'", re.DOTALL
)

_Path = tuple[str | int, ...]


def parse_toml(text: str, file: str, problems: Problems, *, places: bool = True) -> Value | None:
    """Return the document as values, or None after noting why there is none.

    Args:
        text: The document.
        file: The file's name for places.
        problems: Takes what is wrong.
        places: False leaves the scanner out and puts everything in line 1; a large file that a program wrote
            is read this way first, and again with places only if something turns out to be wrong with it.
    """
    import tomllib  # not needed by those who only read YAML

    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        match = _POSITION.search(message)
        place = Place(file)
        if match:
            message = message[: match.start()]
            last = text.count("\n") + 1
            place = Place(file, int(match[1] or last), int(match[2] or 1))
        problems.add(message[:1].lower() + message[1:], "toml.syntax", place)
        return None
    return _Places(text if places else "", file).attach(data, ())


@dataclass(slots=True)
class _Location:
    key: Place
    value: Place


class _Places:
    """Knows where each key of a document stands."""

    def __init__(self, text: str, file: str) -> None:
        self._file = file
        self._locations: dict[_Path, _Location] = dict(_Scanner(text, file).locations())

    def attach(self, data: Any, path: _Path, above: Place | None = None) -> Value:
        """Return `data` as values; what has no location of its own takes the place of what holds it."""
        location = self._locations.get(path)
        place = location.value if location else above or Place(self._file, 1, 1)
        if isinstance(data, dict):
            entries = {key: self.attach(value, (*path, key), place) for key, value in data.items()}
            keys = {key: self._key_place(path, key, place) for key in data}
            return Value(entries, place, keys=keys)
        if isinstance(data, list):
            return Value([self.attach(item, (*path, i), place) for i, item in enumerate(data)], place)
        if not isinstance(data, (str, int, float, bool)):
            return Value(str(data), place, str(data))  # dates: nothing of ours takes one, so text will do
        return Value(data, place, str(data)[:60])

    def _key_place(self, path: _Path, key: str, above: Place) -> Place:
        location = self._locations.get((*path, key))
        return location.key if location else above


class _Scanner:
    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._file = file
        self._at = 0
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def locations(self) -> Iterator[tuple[_Path, _Location]]:
        """Yield the path of every table and key with where it stands."""
        table: _Path = ()
        arrays: dict[_Path, int] = {}
        while self._skip_blank():
            start = self._at
            if self._text.startswith("[[", start):
                self._at += 2
                path = self._resolve(self._key(), arrays)
                arrays[path] = arrays.get(path, -1) + 1
                table = (*path, arrays[path])
                yield path, self._location(start, start)
                yield table, self._location(start, start)
                self._at += 2
            elif self._text[start] == "[":
                self._at += 1
                table = self._resolve(self._key(), arrays)
                yield table, self._location(start, start)
                self._at += 1
            else:
                key = self._key()
                self._at = self._text.index("=", self._at) + 1
                while self._text[self._at] in " \t":
                    self._at += 1
                yield (*table, *key), self._location(start, self._at)
                self._skip_value()

    def _resolve(self, key: tuple[str, ...], arrays: dict[_Path, int]) -> _Path:
        """Put the index of the latest element behind every name in `key` that is an array of tables."""
        path: _Path = ()
        for i, part in enumerate(key):
            path = (*path, part)
            if path in arrays and i < len(key) - 1:
                path = (*path, arrays[path])
        return path

    def _key(self) -> tuple[str, ...]:
        parts: list[str] = []
        while True:
            while self._text[self._at] in " \t":
                self._at += 1
            quoted = _STRING.match(self._text, self._at)
            match = quoted or _BARE.match(self._text, self._at)
            if match is None:  # cannot happen in a document that tomllib took
                return tuple(parts)
            parts.append(match[0][1:-1] if quoted else match[0])
            self._at = match.end()
            while self._text[self._at] in " \t":
                self._at += 1
            if self._text[self._at] != ".":
                return tuple(parts)
            self._at += 1

    def _skip_value(self) -> None:
        depth = 0
        while self._at < len(self._text):
            char = self._text[self._at]
            if char in "\"'":
                match = _STRING.match(self._text, self._at)
                self._at = match.end() if match else self._at + 1
                continue
            if char == "#":
                self._to_line_end()
                continue
            if char in "[{":
                depth += 1
            elif char in "]}":
                depth -= 1
            elif char == "\n" and depth == 0:
                return
            self._at += 1

    def _skip_blank(self) -> bool:
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == "#":
                self._to_line_end()
            elif char in " \t\r\n":
                self._at += 1
            else:
                return True
        return False

    def _to_line_end(self) -> None:
        end = self._text.find("\n", self._at)
        self._at = len(self._text) if end < 0 else end

    def _location(self, key: int, value: int) -> _Location:
        return _Location(self._place(key), self._place(value))

    def _place(self, offset: int) -> Place:
        line = bisect_right(self._starts, offset)
        return Place(self._file, line, offset - self._starts[line - 1] + 1)
