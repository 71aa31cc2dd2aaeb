"""The tree of values that both readers return, and the collector of problems."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from orchestrator.errors import FileInvalid, Place, Problem

__all__ = ["Data", "Problems", "Scalar", "Value"]

Scalar: TypeAlias = "str | int | float | bool | None"
Data: TypeAlias = "Scalar | list[Value] | dict[str, Value]"


@dataclass(slots=True)
class Value:
    """One value of a file.

    Attributes:
        data: The scalar, or a list or mapping of further values. Keys are text, whatever they looked like.
        place: Where the value starts.
        text: The value as written, for messages; cut short if it is long.
        keys: For a mapping, where each key stands.
    """

    data: Data
    place: Place
    text: str = ""
    keys: dict[str, Place] = field(default_factory=dict)

    @property
    def mapping(self) -> dict[str, Value] | None:
        """Return the mapping, or None if this is something else."""
        return self.data if isinstance(self.data, dict) else None

    @property
    def sequence(self) -> list[Value] | None:
        """Return the list, or None if this is something else."""
        return self.data if isinstance(self.data, list) else None

    def get(self, key: str) -> Value | None:
        """Return the value of a key; None if it is not there or this is no mapping."""
        return self.data.get(key) if isinstance(self.data, dict) else None

    def key_place(self, key: str) -> Place:
        """Return where a key stands, or else where the mapping does."""
        return self.keys.get(key, self.place)

    def place_of(self, *path: str) -> Place:
        """Return where the value at a path of keys stands, or the nearest one above it that exists."""
        here = self
        for key in path:
            below = here.get(key)
            if below is None:
                break
            here = below
        return here.place

    def describe(self) -> str:
        """Return what the value is, as the end of "… is" in a message."""
        if self.data is None:
            return "empty"
        if isinstance(self.data, dict):
            return "a mapping"
        if isinstance(self.data, list):
            return "a list"
        text = self.text or str(self.data)
        # What looks like a number and is text was put in quotes, and that is what has to be seen.
        number = isinstance(self.data, str) and text.replace(".", "", 1).isdecimal()
        return f'`"{text}"`' if number else f"`{text}`"

    def plain(self) -> object:
        """Return the same data without places."""
        if isinstance(self.data, dict):
            return {key: value.plain() for key, value in self.data.items()}
        if isinstance(self.data, list):
            return [value.plain() for value in self.data]
        return self.data


class Problems:
    """Collects what is wrong in a file, so that everything can be said at once."""

    def __init__(self, area: str) -> None:
        self._area = area
        self._found: list[Problem] = []

    def add(
        self,
        message: str,
        id: str,
        place: Place | None,
        *,
        found: str | None = None,
        expected: str | None = None,
        hint: str | None = None,
    ) -> None:
        """Note a problem; its id is prefixed with the area unless it has one of its own."""
        full = id if "." in id else f"{self._area}.{id}"
        problem = Problem(message, full, place, found, expected, hint)
        if problem not in self._found:
            self._found.append(problem)

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[Problem]:
        return iter(self.in_order())

    def in_order(self) -> list[Problem]:
        """Return the problems in the order of the file; those of options and of the whole file come first."""

        def where(problem: Problem) -> tuple[str, int, int]:
            place = problem.place
            return (place.file, place.line, place.column) if place else ("", 0, 0)

        files: dict[str, int] = {}
        for problem in self._found:
            files.setdefault(where(problem)[0], len(files))
        return sorted(self._found, key=lambda p: (files[where(p)[0]], *where(p)[1:]))

    def raise_as(self, kind: type[FileInvalid], file: str) -> None:
        """Raise `kind` if anything was noted."""
        if self._found:
            raise kind(self.in_order(), file=file)
