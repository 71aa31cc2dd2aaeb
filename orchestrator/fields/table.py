"""Read a mapping with a fixed set of keys."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import nearest_hint, quoted
from orchestrator.fields.kinds import NONE, Kind, printable
from orchestrator.source import Problems, Value

__all__ = ["Field", "OneOfTables", "ShortOrTable", "Table"]


@dataclass(frozen=True, slots=True)
class Field:
    """One key of a table.

    Attributes:
        kind: What its value may be.
        help: One line for editors and the reference.
        required: Whether the table is wrong without it.
        default: What holds without it, as it would be written; shown, and given to who asks `Table.fill`.
    """

    kind: Kind
    help: str = ""
    required: bool = False
    default: Any = None


class Table(Kind):
    """A mapping that may have these keys and no others.

    Args:
        name: What messages call it, such as `link`.
        fields: The keys, in the order in which the reference lists them.
        later: Keys that are planned, with what they would do; they are refused by name, never ignored.
        private: Whether keys starting with `x-` are left to the user, for anchors.
        hints: What to say when one of these foreign keys appears, for words that people bring from elsewhere.
    """

    expected = "a mapping"

    def __init__(
        self,
        name: str,
        fields: Mapping[str, Field],
        *,
        later: Mapping[str, str] | None = None,
        private: bool = False,
        hints: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.fields = dict(fields)
        self.later = dict(later or {})
        self._private = private
        self._hints = dict(hints or {})

    def read(self, value: Value, name: str, problems: Problems) -> dict[str, Any] | None:
        """Return the keys that are there and can be read."""
        if value.mapping is None:
            self.wrong(value, name, problems, f"known keys are {quoted(self.fields)}")
            return None
        read: dict[str, Any] = {}
        for key, below in value.mapping.items():
            field = self.fields.get(key)
            if field is None:
                self._unknown(key, value, problems)
                continue
            item = field.kind.read(below, key, problems)
            if item is not None:
                read[key] = item
        for key, field in self.fields.items():
            if field.required and key not in value.mapping:
                problems.add(
                    f"{self.name} needs the key `{key}`",
                    "missing-key",
                    value.place,
                    expected=f"{key}: {field.kind.expected}",
                    hint=f"add `{key}: …`" + (f", {field.help}" if field.help else ""),
                )
        return read

    def fill(self, read: Mapping[str, Any]) -> dict[str, Any]:
        """Return what was read with the defaults of all other keys that have one."""
        defaults = {key: field.default for key, field in self.fields.items() if field.default is not None}
        return {**defaults, **read}

    def schema(self) -> dict[str, Any]:
        """Return the table as JSON Schema, with each key's help and default."""
        properties: dict[str, Any] = {}
        for key, field in self.fields.items():
            shown = field.kind.schema()
            if field.help:
                shown["description"] = field.help
            if field.default is not None:
                shown["default"] = field.default
            properties[key] = shown
        schema: dict[str, Any] = {
            "type": "object",
            "properties": properties,
            "additionalProperties": False,
        }
        if self._private:
            schema["patternProperties"] = {"^x-": {}}
        required = [key for key, field in self.fields.items() if field.required]
        if required:
            schema["required"] = required
        return schema

    def _unknown(self, key: str, value: Value, problems: Problems) -> None:
        if self._private and key.startswith("x-"):
            return
        place = value.key_place(key)
        if key in self.later:
            problems.add(
                f"`{key}` is not built yet: {self.later[key]}",
                "not-built",
                place,
                found=key,
                expected=quoted(self.fields),
                hint="remove the key; it would have no effect, and nothing is ignored here",
            )
            return
        hint = self._hints.get(key)
        below = value.get(key)
        if " " in key and below is not None and below.data is None:
            hint = "text with a comma or a colon in it needs quotes"
        if hint is None:
            hint = nearest_hint(key, self.fields, otherwise=f"known keys are {quoted(self.fields)}")
        problems.add(
            f"unknown key `{printable(key)}` in {self.name}",
            "unknown-key",
            place,
            found=printable(key),
            expected=quoted(self.fields),
            hint=hint,
        )


class ShortOrTable(Kind):
    """A short form, which stands for one key of a table, or that table; or the word `none`.

    Args:
        short: The short form.
        main: The key that the short form states.
        table: The long form.
    """

    def __init__(self, short: Kind, main: str, table: Table) -> None:
        self._short, self._main, self.table = short, main, table
        self.expected = f"{short.expected}, or a mapping with the key `{main}`"

    def read(self, value: Value, name: str, problems: Problems) -> dict[str, Any] | str | None:
        """Return the table as read, or the word `none`."""
        if value.mapping is not None:
            return self.table.read(value, name, problems)
        read = NONE if value.data == NONE else self._short.read(value, name, problems)
        return read if read is None or read == NONE else {self._main: read}

    def schema(self) -> dict[str, Any]:
        """Return all forms as JSON Schema."""
        return {"anyOf": [self._short.schema(), {"const": NONE}, self.table.schema()]}


class OneOfTables(Kind):
    """A mapping with exactly one of several keys, which says by which table it is read.

    Args:
        tables: The tables by that key.
        mark: The key under which the result has it; no file has it, because it ends with `!`.
        expected: What is expected, for messages.
    """

    def __init__(self, tables: Mapping[str, Table], mark: str, expected: str) -> None:
        self._tables, self._mark, self.expected = tables, mark, expected

    def read(self, value: Value, name: str, problems: Problems) -> dict[str, Any] | None:
        """Return what the table reads, and the key that led to it under the mark."""
        if value.mapping is None:
            self.wrong(value, name, problems)
            return None
        found = self.found(value.mapping)
        if len(found) != 1:
            self.refuse(value, found, problems)
            return None
        noted = len(problems)
        read = self._tables[found[0]].read(value, name, problems)
        return None if read is None or len(problems) > noted else {**read, self._mark: found[0]}

    def found(self, keys: Collection[str]) -> list[str]:
        """Return the deciding keys among those of a mapping."""
        return [key for key in self._tables if key in keys]

    @abstractmethod
    def refuse(self, value: Value, found: Sequence[str], problems: Problems) -> None:
        """Note that a mapping has none of the deciding keys, or several."""

    def schema(self) -> dict[str, Any]:
        """Return one alternative per table."""
        return {"oneOf": [table.schema() for table in self._tables.values()]}
