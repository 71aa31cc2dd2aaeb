"""Compile message classes into functions that encode and validate their MessagePack maps.

A message is a frozen dataclass whose annotations say everything: `U32` is an integer with a range, `X | None`
a field that may be left out, `tuple[X, ...]` a list, a nested dataclass a map. The annotations of a class are
compiled once, when the first message of that type passes, into plain functions; decoding does no look-up of
types after that.

Fields that a class does not know are ignored, so that a newer peer may add some. A field without a default is
required. A value of None is not written.

Everything has a bound: a text its bytes, a value that is carried without being looked at (`Json`) its depth,
bytes and kinds, as `orchestrator.values` says. A peer is not trusted to have checked what it sends.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Union

from orchestrator.impairment import LinkSpec
from orchestrator.protocol.errors import BadBody
from orchestrator.values import (
    MAX_NAME_BYTES,
    MAX_VALUE_BYTES,
    ValueRefused,
    brief,
    checked_name,
    plain_value,
)

__all__ = [
    "MAX_TEXT_BYTES",
    "U16",
    "U32",
    "U64",
    "Fraction",
    "Json",
    "Name",
    "Plain",
    "Range",
    "Row",
    "Text",
    "Value",
    "decode_body",
    "encode_body",
]

MAX_TEXT_BYTES = 1024 * 1024
"""Bytes of a text: far more than any that we write, a quarter of a message."""

MAX_JSON_BYTES = 4 * 1024 * 1024
"""Bytes of a value; a message has no more."""


@dataclass(frozen=True, slots=True)
class Range:
    """The bounds of an integer or a float, both included."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Text:
    """The bound of a text in bytes; a name is not empty and has no character 0, either."""

    limit: int
    name: bool = False


@dataclass(frozen=True, slots=True)
class Plain:
    """The bound of a plain value in bytes."""

    limit: int


U16 = Annotated[int, Range(0, 2**16 - 1)]
U32 = Annotated[int, Range(0, 2**32 - 1)]
U64 = Annotated[int, Range(0, 2**64 - 1)]
Fraction = Annotated[float, Range(0.0, 1.0)]
Name = Annotated[str, Text(MAX_NAME_BYTES, name=True)]
"""A name or a key; it becomes part of an index in Postgres, which has less room than a column."""
Json = Annotated[Any, Plain(MAX_JSON_BYTES)]
"""A plain value that the protocol carries without knowing what it means."""
Value = Annotated[Any, Plain(MAX_VALUE_BYTES)]
"""A value that a role publishes."""
Row = Annotated[dict[str, Any], Plain(MAX_VALUE_BYTES)]
"""A row that a role reports."""

_Decoder = Callable[[Any], Any]
_Encoder = Callable[[Any], Any]


def encode_body(message: Any) -> dict[str, Any]:
    """Return a message's fields by name, as plain values that msgpack can write."""
    body: dict[str, Any] = {}
    for name, encode in _layout(type(message)).encoders:
        value = getattr(message, name)
        if value is not None:
            body[name] = value if encode is None else encode(value)
    return body


def decode_body(cls: type[Any], body: Any) -> Any:
    """Build a message of a class from the map that travelled.

    Raises:
        BadBody: A required field is missing, or a field has the wrong type or range.
    """
    if not isinstance(body, dict):
        raise BadBody(f"the body of {cls.__name__} is {_kind(body)}, but a map is expected")
    values: dict[str, Any] = {}
    for name, decode, required in _layout(cls).decoders:
        value = body.get(name)
        if value is None:
            if required:
                raise BadBody(f"{cls.__name__} lacks the field `{name}`", expected=name)
            continue
        try:
            values[name] = decode(value)
        except BadBody as error:
            raise BadBody(f"{cls.__name__}.{name}: {error.message}", found=brief(value)) from None
    return cls(**values)


@dataclass(frozen=True, slots=True)
class _Layout:
    encoders: tuple[tuple[str, _Encoder | None], ...]
    decoders: tuple[tuple[str, _Decoder, bool], ...]


def _layout(cls: type[Any]) -> _Layout:
    layout = _LAYOUTS.get(cls)
    if layout is None:
        layout = _LAYOUTS[cls] = _compile(cls)
    return layout


_LAYOUTS: dict[type[Any], _Layout] = {}


def _compile(cls: type[Any]) -> _Layout:
    hints = typing.get_type_hints(cls, include_extras=True)
    encoders: list[tuple[str, _Encoder | None]] = []
    decoders: list[tuple[str, _Decoder, bool]] = []
    for field in dataclasses.fields(cls):
        encode, decode = _codec(hints[field.name])
        no_default = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        encoders.append((field.name, encode))
        decoders.append((field.name, decode, no_default))
    return _Layout(tuple(encoders), tuple(decoders))


def _codec(hint: Any) -> tuple[_Encoder | None, _Decoder]:
    origin = typing.get_origin(hint)
    if origin is Annotated:
        base, bounds = typing.get_args(hint)
        if isinstance(bounds, Text):
            return None, _text(bounds)
        if isinstance(bounds, Plain):
            return None, _plain(bounds, as_map=base is not Any)
        return None, _number(base, bounds)
    if origin in (Union, types.UnionType):
        inner = [each for each in typing.get_args(hint) if each is not type(None)]
        return _codec(inner[0])
    if origin is tuple:
        return _sequence(typing.get_args(hint))
    if origin in (dict, Mapping, typing.get_origin(Mapping[str, int])):
        return _mapping(*typing.get_args(hint))
    if hint is LinkSpec:
        return LinkSpec.to_wire, _link_spec
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return encode_body, lambda value: decode_body(hint, value)
    if hint is str:
        return None, _text(Text(MAX_TEXT_BYTES))
    if hint is float:
        return None, _number(float, Range(float("-inf"), float("inf")))
    return None, _exactly(hint)


def _exactly(kind: type[Any]) -> _Decoder:
    def decode(value: Any) -> Any:
        if type(value) is not kind:
            raise BadBody(f"it is {_kind(value)}, but {_NAMES.get(kind, kind.__name__)} is expected")
        return value

    return decode


def _text(bounds: Text) -> _Decoder:
    limit, name = bounds.limit, bounds.name

    def decode(value: Any) -> str:
        if type(value) is not str:
            raise BadBody(f"it is {_kind(value)}, but a string is expected")
        if name:
            try:
                return checked_name(value, limit=limit)
            except ValueRefused as refused:
                raise BadBody(f"it {refused}", expected=refused.expected) from None
        # Four bytes are the most that a character has; only a long text has to be measured.
        if len(value) * 4 > limit and len(value.encode()) > limit:
            raise BadBody(f"it has more than {limit} bytes", expected=f"at most {limit} bytes")
        return value

    return decode


def _plain(bounds: Plain, *, as_map: bool) -> _Decoder:
    limit = bounds.limit

    def decode(value: Any) -> Any:
        if as_map and type(value) is not dict:
            raise BadBody(f"it is {_kind(value)}, but a map is expected")
        try:
            return plain_value(value, limit=limit)
        except ValueRefused as refused:
            raise BadBody(f"it {refused}" if not refused.path else str(refused)) from None

    return decode


def _number(base: type[Any], bounds: Range) -> _Decoder:
    low, high, as_float = bounds.low, bounds.high, base is float

    def decode(value: Any) -> Any:
        if type(value) is not int and not (as_float and type(value) is float):
            raise BadBody(f"it is {_kind(value)}, but {_NAMES[base]} is expected")
        if not low <= value <= high:
            raise BadBody(f"it is {value}, but must lie between {low:g} and {high:g}")
        return float(value) if as_float else value

    return decode


def _sequence(args: tuple[Any, ...]) -> tuple[_Encoder | None, _Decoder]:
    if len(args) == 2 and args[1] is Ellipsis:
        encode, decode = _codec(args[0])
        encode_all: _Encoder = list if encode is None else lambda items: [encode(item) for item in items]
        return encode_all, lambda value: tuple([decode(item) for item in _list(value)])
    decoders = [_codec(arg)[1] for arg in args]  # a fixed tuple, such as an edge: plain values only

    def decode_fixed(value: Any) -> Any:
        items = _list(value)
        if len(items) != len(decoders):
            raise BadBody(f"it has {len(items)} parts, but {len(decoders)} are expected")
        return tuple([decode(item) for decode, item in zip(decoders, items, strict=True)])

    return list, decode_fixed


def _mapping(key: Any, item: Any) -> tuple[_Encoder | None, _Decoder]:
    decode_key = _codec(key)[1]
    encode, decode = _codec(item)
    encode_all: _Encoder = (
        dict if encode is None else lambda values: {name: encode(value) for name, value in values.items()}
    )

    def decode_all(value: Any) -> Any:
        if not isinstance(value, dict):
            raise BadBody(f"it is {_kind(value)}, but a map is expected")
        return {decode_key(name): decode(each) for name, each in value.items()}

    return encode_all, decode_all


def _link_spec(value: Any) -> LinkSpec:
    if not isinstance(value, dict):
        raise BadBody(f"it is {_kind(value)}, but a map is expected")
    try:
        return LinkSpec.from_wire(value)
    except (ValueError, TypeError) as error:
        raise BadBody(str(error)) from None


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise BadBody(f"it is {_kind(value)}, but a list is expected")
    return value


_NAMES: dict[type[Any], str] = {
    int: "an integer",
    float: "a number",
    str: "a string",
    bytes: "bytes",
    bool: "true or false",
    dict: "a map",
    list: "a list",
}


def _kind(value: Any) -> str:
    return "nothing" if value is None else _NAMES.get(type(value), type(value).__name__)
