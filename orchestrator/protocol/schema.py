"""Turn message classes into checkers of the maps that travel, and back.

A message is a frozen dataclass whose annotations say everything: `U32` is an integer with a range, `X | None`
a field that may be left out, `tuple[X, ...]` a list, a nested dataclass a map. The annotations of a class are
compiled once, when the first message of that type passes, into plain functions; decoding does no look-up of
types after that.

Fields that a class does not know are ignored, so that a newer peer may add some. A field without a default is
required. A value of None is not written.
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

__all__ = ["U16", "U32", "U64", "Fraction", "Json", "Range", "decode_body", "encode_body"]


@dataclass(frozen=True, slots=True)
class Range:
    """The bounds of an integer or a float, both included."""

    low: float
    high: float


U16 = Annotated[int, Range(0, 2**16 - 1)]
U32 = Annotated[int, Range(0, 2**32 - 1)]
U64 = Annotated[int, Range(0, 2**64 - 1)]
Fraction = Annotated[float, Range(0.0, 1.0)]
Json = Any
"""A value that the protocol carries without looking inside: whatever msgpack can hold."""

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
            raise BadBody(f"{cls.__name__}.{name}: {error.message}", found=repr(value)[:80]) from None
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
    if hint is Any:
        return None, lambda value: value
    if hint is float:
        return None, _number(float, Range(float("-inf"), float("inf")))
    return None, _exactly(hint)


def _exactly(kind: type[Any]) -> _Decoder:
    def decode(value: Any) -> Any:
        if type(value) is not kind:
            raise BadBody(f"it is {_kind(value)}, but {_NAMES.get(kind, kind.__name__)} is expected")
        return value

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
