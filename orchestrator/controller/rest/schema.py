"""JSON schemas of messages and their parts, and their values as JSON."""

from __future__ import annotations

import base64
import dataclasses
import inspect
import re
import typing
from types import UnionType
from typing import Any, Union

from orchestrator.impairment import FIELDS, FieldKind, FieldRule, LinkSpec
from orchestrator.protocol.schema import U16, U32, U64, Json, Name, Row, Value, encode_body

__all__ = ["Schemas", "as_json", "hints_of"]

_SCALARS: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    float: {"type": "number"},
    bytes: {"type": "string", "contentEncoding": "base64"},
    Any: {},
}

_NAMED: tuple[tuple[Any, dict[str, Any]], ...] = (
    (U16, {"type": "integer", "minimum": 0, "maximum": 2**16 - 1}),
    (U32, {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}),
    (U64, {"type": "integer", "minimum": 0, "maximum": 2**64 - 1}),
    (Name, {"type": "string", "minLength": 1}),
    (Json, {}),
    (Value, {}),
    (Row, {"type": "object"}),
)
"""The annotations of `orchestrator.protocol.schema`, which carry functions."""


def as_json(value: Any) -> Any:
    """Return a message or a part of one as JSON has it; what is None is left out."""
    if isinstance(value, LinkSpec):
        return as_json(value.to_wire())
    if dataclasses.is_dataclass(value):
        return {name: as_json(each) for name, each in encode_body(value).items() if name != "re"}
    if isinstance(value, dict):
        return {str(key): as_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(each) for each in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value


def hints_of(kind: type[Any]) -> dict[str, Any]:
    """Return the annotations of a class's fields."""
    return typing.get_type_hints(kind, include_extras=True)


class Schemas:
    """Makes schemas, and collects those of classes under their names.

    Attributes:
        named: By name, as OpenAPI's `components/schemas`.
    """

    def __init__(self) -> None:
        self.named: dict[str, Any] = {}

    def of(self, hint: Any) -> dict[str, Any]:
        """Return the schema of an annotation."""
        known = next((schema for each, schema in _NAMED if each == hint), None) or _SCALARS.get(hint)
        if known is not None:
            return dict(known)
        origin, args = typing.get_origin(hint), typing.get_args(hint)
        if origin in (Union, UnionType):
            return self.of(args[0])  # the other one is None, and is left out
        if origin is tuple and args[1] is ...:
            return {"type": "array", "items": self.of(args[0])}
        if origin is tuple:
            return {
                "type": "array",
                "prefixItems": [self.of(each) for each in args],
                "items": False,
                "minItems": len(args),
            }
        if origin is dict:
            return {"type": "object", "additionalProperties": self.of(args[1])}
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            if hint.__name__ not in self.named:
                self.named[hint.__name__] = {}  # for a class that holds itself
                self.named[hint.__name__] = self._of_class(hint)
            return {"$ref": f"#/components/schemas/{hint.__name__}"}
        return {}  # a value that the protocol carries without knowing what it means

    def _of_class(self, kind: type[Any]) -> dict[str, Any]:
        if kind is LinkSpec:
            properties = {name: _rule_schema(rule) for name, rule in FIELDS.items() if name != "trace_data"}
            text = "The impairments of one direction of a link; what is absent has no effect on packets."
            return _object(text, properties, [])
        hints = hints_of(kind)
        names = [field.name for field in dataclasses.fields(kind) if field.name != "re"]
        optional = {name for name in names if type(None) in typing.get_args(hints[name])}
        optional |= {name for name in names if self.of(hints[name]) == {}}  # such a value may be null
        properties = {name: self.of(hints[name]) for name in names}
        return _object(_summary(kind), properties, [name for name in names if name not in optional])


def _object(text: str, properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    schema = {"type": "object", "description": text, "properties": properties}
    return {**schema, "required": required} if required else schema


def _summary(kind: type[Any]) -> str:
    """Return the first paragraph of a class's documentation."""
    text = inspect.getdoc(kind) or ""
    return re.sub(r"\s+", " ", text.split("\n\n")[0]).strip()


def _rule_schema(rule: FieldRule) -> dict[str, Any]:
    text = {"description": rule.help}
    match rule.kind:
        case FieldKind.FLAG:
            return {"type": "boolean", **text}
        case FieldKind.WORD:
            return {"type": "string", "enum": list(rule.words), **text}
        case FieldKind.TEXT:
            return {"type": "string", **text}
        case FieldKind.NUMBERS:
            return {"type": "array", "items": {"type": "number"}, "minItems": 2, **text}
        case FieldKind.WEIGHTS:
            return {"type": "object", "additionalProperties": {"type": "integer"}, **text}
        case FieldKind.PROBABILITY | FieldKind.NUMBER:
            return {"type": "number", "minimum": rule.least, "maximum": rule.most, **text}
        case _:
            text = {"description": f"{rule.help}, in {rule.kind.value}"}
            return {"type": "integer", "minimum": int(rule.least), "maximum": int(rule.most), **text}
