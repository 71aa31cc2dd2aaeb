"""Kinds of values: each reads a value or records a problem, and describes itself as JSON Schema.

`read` returns None after recording a problem; no kind reads a valid value as None.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, TypeVar

from orchestrator.errors import UnitInvalid, nearest, quoted
from orchestrator.source import Problems, Value

__all__ = [
    "NONE",
    "ROUTE_WEIGHTS",
    "Anything",
    "Boolean",
    "Choice",
    "Integer",
    "Kind",
    "ListOf",
    "MapOf",
    "Number",
    "OrNone",
    "RouteWeight",
    "Text",
    "Unit",
    "printable",
]

_Read = TypeVar("_Read")

ROUTE_WEIGHTS = (0.001, 1_000_000.0)
"""The least and the greatest weight of one of several routes of a pair."""

NONE = "none"
"""The word that takes away what a default gave."""


class Kind(ABC):
    """One kind of value."""

    expected: str

    @abstractmethod
    def read(self, value: Value, name: str, problems: Problems) -> Any | None:
        """Return what the value says, or None after noting a problem; `name` is what messages call it."""

    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """Return the kind as JSON Schema."""

    def wrong(self, value: Value, name: str, problems: Problems, hint: str | None = None) -> None:
        """Note that the value is of another kind."""
        problems.add(
            f"{name} is {value.describe()}, but {self.expected} is expected",
            "type",
            value.place,
            found=value.text or value.describe(),
            expected=self.expected,
            hint=hint,
        )


@dataclass(eq=False, repr=False)
class Integer(Kind):
    """A whole number within bounds; an exponent or a fraction does not make one."""

    least: int = 0
    most: int = 2**63 - 1
    expected: str = "a whole number"
    _: KW_ONLY
    hint: str | None = None

    def read(self, value: Value, name: str, problems: Problems) -> int | None:
        number = value.data
        if isinstance(number, bool) or not isinstance(number, int):
            self.wrong(value, name, problems, self.hint)
            return None
        expected = f"{self.expected} from {self.least} to {self.most}"
        return _within(self.least, self.most, number, value, name, problems, expected)

    def schema(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"type": "integer", "minimum": self.least}
        if self.most < 2**63 - 1:
            shown["maximum"] = self.most
        return shown


@dataclass(eq=False, repr=False)
class Number(Kind):
    """A number, whole or not, within bounds."""

    least: float
    most: float
    expected: str = "a number"

    def read(self, value: Value, name: str, problems: Problems) -> float | None:
        number = value.data
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            self.wrong(value, name, problems)
            return None
        return _within(self.least, self.most, number, value, name, problems)

    def schema(self) -> dict[str, Any]:
        return {"type": "number", "minimum": self.least, "maximum": self.most}


class RouteWeight(Number):
    """The weight of one of several routes of a pair, the same in files, requests and SQL (migration 0010)."""

    def __init__(self) -> None:
        super().__init__(*ROUTE_WEIGHTS, expected="a number greater than 0")


class Boolean(Kind):
    """`true` or `false`; `yes` and `on` are text in YAML 1.2."""

    expected = "true or false"

    def read(self, value: Value, name: str, problems: Problems) -> bool | None:
        if isinstance(value.data, bool):
            return value.data
        meant = {"yes": "true", "on": "true", "1": "true", "no": "false", "off": "false", "0": "false"}
        word = meant.get(value.text.lower())
        self.wrong(value, name, problems, f"write `{word}`" if word else None)
        return None

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(eq=False, repr=False)
class Text(Kind):
    """Text, if need be of a certain form.

    Attributes:
        pattern: A regular expression for the whole text.
        expected: What the form is called in messages.
        numbers: Whether a bare number or truth value is taken as the text it was written as.
        hint: What helps when the form is wrong.
        most: The largest length.
    """

    pattern: str | None = None
    expected: str = "text"
    _: KW_ONLY
    numbers: bool = False
    hint: str | None = None
    most: int = 1000

    def read(self, value: Value, name: str, problems: Problems) -> str | None:
        text = value.text if self.numbers and isinstance(value.data, (int, float)) else value.data
        if not isinstance(text, str):
            self.wrong(value, name, problems, "put it in quotes" if value.data is not None else None)
            return None
        fits = self.pattern is None or re.fullmatch(self.pattern, text) is not None
        if fits and len(text) <= self.most and text.isprintable():
            return text
        problems.add(
            f"{name} is `{printable(text)}`, but {self.expected} is expected",
            "form",
            value.place,
            found=printable(text),
            expected=self.expected,
            hint=self.hint,
        )
        return None

    def schema(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"type": ["string", "number", "boolean"] if self.numbers else "string"}
        if self.pattern:
            shown["pattern"] = f"^(?:{self.pattern})$"
        return shown


class Choice(Kind):
    """One of a few words.

    Args:
        words: The words that work.
        later: Words that are planned, with what they would do; they are refused by name.
    """

    def __init__(self, *words: str, later: Mapping[str, str] | None = None) -> None:
        self._words = words
        self._later = dict(later or {})
        self.expected = quoted(words) if len(words) == 1 else f"one of {quoted(words)}"

    def read(self, value: Value, name: str, problems: Problems) -> str | None:
        word = value.data
        if isinstance(word, str) and word in self._words:
            return word
        if isinstance(word, str) and word in self._later:
            problems.add(
                f"{name} `{word}` is not built yet",
                "not-built",
                value.place,
                found=str(word),
                expected=self.expected,
                hint=f"it would mean {self._later[str(word)]}; for now {self.expected} works",
            )
            return None
        close = nearest(value.text, self._words) if isinstance(word, str) else None
        self.wrong(value, name, problems, f"did you mean `{close}`?" if close else None)
        return None

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self._words)}


@dataclass(eq=False, repr=False)
class Unit(Kind):
    """A value with a unit.

    Attributes:
        parse: One of the readers in `units`.
        expected: What it is called in messages.
        pattern: For editors only: roughly what is accepted.
        examples: For editors only.
        least: The smallest value, as `parse` returns it.
        most: The largest value, as `parse` returns it.
    """

    parse: Callable[[str], Any]
    expected: str
    _: KW_ONLY
    pattern: str
    examples: tuple[str, ...] = ()
    least: Any = None
    most: Any = None

    def read(self, value: Value, name: str, problems: Problems) -> Any | None:
        data = value.data
        if isinstance(data, bool) or not isinstance(data, (str, int, float)):
            self.wrong(value, name, problems)
            return None
        try:
            # The text as written, so that `0.1` reaches the exact reader and not a float near it.
            parsed = self.parse(data if isinstance(data, str) else value.text)
        except UnitInvalid as error:
            problems.add(
                f"{name} is `{printable(value.text)}`, but {error.reason}",
                "unit",
                value.place,
                found=error.found,
                expected=error.expected,
                hint=error.hint,
            )
            return None
        return _within(self.least, self.most, parsed, value, name, problems)

    def schema(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"type": ["string", "number"], "pattern": self.pattern}
        if self.examples:
            shown["examples"] = list(self.examples)
        return shown


class OrNone(Kind):
    """A value of another kind, or the word `none`, which takes away what a default gave."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self.expected = kind.expected

    def read(self, value: Value, name: str, problems: Problems) -> Any | None:
        return NONE if value.data == NONE else self._kind.read(value, name, problems)

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [self._kind.schema(), {"const": NONE}]}


class ListOf(Kind):
    """A list of one kind; items that cannot be read are left out after being noted."""

    def __init__(self, item: Kind, name: str, *, least: int = 0, most: int | None = None) -> None:
        self._item, self._name = item, name
        self._least, self._most = least, most
        self.expected = f"a list of {item.expected}" if least == 0 else f"a list of at least {least}"
        if least == most:
            self.expected = f"a list of exactly {least}"

    def read(self, value: Value, name: str, problems: Problems) -> list[Any] | None:
        items = value.sequence
        if items is None or len(items) < self._least or (self._most is not None and len(items) > self._most):
            found = f"{name} is {value.describe()}" if items is None else f"{name} has {len(items)} elements"
            problems.add(
                f"{found}, but {self.expected} is expected",
                "type",
                value.place,
                found=value.text or value.describe(),
                expected=self.expected,
            )
            return None
        read = [self._item.read(item, self._name, problems) for item in items]
        return [item for item in read if item is not None]

    def schema(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"type": "array", "items": self._item.schema()}
        if self._least:
            shown["minItems"] = self._least
        if self._most is not None:
            shown["maxItems"] = self._most
        return shown


class MapOf(Kind):
    """A mapping whose keys are the user's own; keys of a wrong form are noted and left out."""

    expected = "a mapping"

    def __init__(self, key_pattern: str, key_expected: str, item: Kind, item_name: str) -> None:
        self._key = re.compile(key_pattern)
        self._key_expected = key_expected
        self._item, self._item_name = item, item_name

    def read(self, value: Value, name: str, problems: Problems) -> dict[str, Any] | None:
        if value.mapping is None:
            self.wrong(value, name, problems)
            return None
        read: dict[str, Any] = {}
        for key, below in value.mapping.items():
            if self._key.fullmatch(key) is None:
                problems.add(
                    f"`{printable(key)}` in {name} is not {self._key_expected}",
                    "form",
                    value.key_place(key),
                    found=printable(key),
                    expected=self._key_expected,
                )
                continue
            item = self._item.read(below, self._item_name.replace("*", key), problems)
            if item is not None:
                read[key] = item
        return read

    def schema(self) -> dict[str, Any]:
        pattern = f"^(?:{self._key.pattern})$"
        return {
            "type": "object",
            "patternProperties": {pattern: self._item.schema()},
            "additionalProperties": False,
        }


class Anything(Kind):
    """A value that is read elsewhere; returned unchanged, with its place."""

    expected = "a value"

    def __init__(self, schema: Mapping[str, Any] | None = None) -> None:
        self._schema = dict(schema or {})

    def read(self, value: Value, name: str, problems: Problems) -> Value:
        return value

    def schema(self) -> dict[str, Any]:
        return dict(self._schema)


def _within(
    least: Any, most: Any, read: _Read, value: Value, name: str, problems: Problems, expected: str = ""
) -> _Read | None:
    """Return what was read, or None after noting that it is out of bounds; a bound may be None."""
    low = least is not None and read < least
    if not low and (most is None or read <= most):
        return read
    bound = f"at least {least} is needed" if low else f"at most {most} fits"
    problems.add(
        f"{name} is `{value.text}`, but {bound}",
        "range",
        value.place,
        found=value.text,
        expected=expected or None,
    )
    return None


def printable(text: str) -> str:
    """Return text that is safe to show: control characters escaped, a long tail cut off."""
    shown = text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
    return shown if len(shown) <= 60 else shown[:60] + "…"
