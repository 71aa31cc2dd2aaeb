"""Validate the MessagePack maps of messages and build the message classes from them.

A message is a frozen dataclass whose annotations say everything: `U32` is an integer with a range, `X | None`
a field that may be left out, `tuple[X, ...]` a list, a nested dataclass a map. The annotations of a class are
compiled once, when the first message of that type passes, into plain functions; decoding does no look-up of
types after that. `U32`, `Name` and the other annotations of this module carry their functions.

Fields that a class does not know are ignored, so that a newer peer may add some. A field without a default is
required. A value of None is not written.

Everything has a bound: a text its bytes, a value that is carried without being looked at (`Json`) its depth,
bytes and kinds, as `orchestrator.values` says. A peer is not trusted to have checked what it sends.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Callable
from functools import partial
from types import UnionType
from typing import Annotated, Any, Union

from orchestrator.impairment import LinkSpec
from orchestrator.protocol.errors import BadBody
from orchestrator.values import ValueRefused, brief, checked_name, plain_value

__all__ = [
    "U8",
    "U16",
    "U32",
    "U64",
    "Json",
    "Name",
    "Row",
    "Value",
    "decode_body",
    "decode_value",
    "encode_body",
]

MAX_TEXT_BYTES = 1024 * 1024
"""Bytes of a text: far more than any that we write, a quarter of a message."""

MAX_JSON_BYTES = 4 * 1024 * 1024
"""Bytes of a value; a message has no more."""

_Decoder = Callable[[Any], Any]


def encode_body(message: Any) -> dict[str, Any]:
    """Return the fields of a message, or of a part of one, that are not None; the parts in it stay objects.

    Raises:
        TypeError: It is no such thing.
    """
    if isinstance(message, LinkSpec):
        return message.to_message()
    names = _fields(type(message))
    return {name: value for name, _, _ in names if (value := getattr(message, name)) is not None}


def decode_body(cls: type[Any], body: Any) -> Any:
    """Build a message of a class from the map that travelled.

    Raises:
        BadBody: A required field is missing, or a field has the wrong type or range.
    """
    if type(body) is not dict:
        raise BadBody(f"the body of {cls.__name__} is {_kind(body)}, but a map is expected")
    values: dict[str, Any] = {}
    for name, decode, required in _fields(cls):
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


def decode_value(hint: Any, value: Any) -> Any:
    """Read a single value by its annotation.

    Raises:
        BadBody: It has the wrong type or range.
    """
    return _decoder(hint)(value)


def _fields(cls: type[Any]) -> tuple[tuple[str, _Decoder, bool], ...]:
    """Return each field's name, its decoder, and whether it is required."""
    fields = _FIELDS.get(cls)
    if fields is None:
        hints, missing = typing.get_type_hints(cls, include_extras=True), dataclasses.MISSING
        fields = _FIELDS[cls] = tuple(
            (field.name, _decoder(hints[field.name]), field.default is field.default_factory is missing)
            for field in dataclasses.fields(cls)
        )
    return fields


_FIELDS: dict[type[Any], tuple[tuple[str, _Decoder, bool], ...]] = {}


def _decoder(hint: Any) -> _Decoder:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        decoder: _Decoder = args[1]
        return decoder
    if origin in (Union, UnionType):
        return _decoder(args[0])  # the other one is None
    if origin is tuple:
        return _list_of(_decoder(args[0])) if args[1] is ... else _tuple_of([_decoder(arg) for arg in args])
    if origin is dict:
        return _map_of(_decoder(args[0]), _decoder(args[1]))
    if hint is LinkSpec:
        return _link_spec
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return partial(decode_body, hint)
    return {str: _text, float: _number}.get(hint) or partial(_exactly, hint)


def _exactly(kind: type[Any], value: Any) -> Any:
    if type(value) is not kind:
        raise BadBody(f"it is {_kind(value)}, but {_KINDS[kind]} is expected")
    return value


def _integer(high: int) -> _Decoder:
    def decode(value: Any) -> int:
        if type(value) is not int:
            raise BadBody(f"it is {_kind(value)}, but an integer is expected")
        if not 0 <= value <= high:
            raise BadBody(f"it is {value}, but must lie between 0 and {high}")
        return value

    return decode


def _number(value: Any) -> float:
    if type(value) is not int:
        _exactly(float, value)
    if math.isnan(value):
        raise BadBody("it is nan, but a number is expected")
    return float(value)


def _text(value: Any) -> Any:
    _exactly(str, value)
    # Four bytes are the most that a character has; only a long text has to be measured.
    if len(value) * 4 > MAX_TEXT_BYTES and len(value.encode()) > MAX_TEXT_BYTES:
        raise BadBody(f"it has more than {MAX_TEXT_BYTES} bytes", expected=f"at most {MAX_TEXT_BYTES} bytes")
    return value


def _list_of(decode: _Decoder) -> _Decoder:
    return lambda value: tuple([decode(item) for item in _exactly(list, value)])


def _tuple_of(decoders: list[_Decoder]) -> _Decoder:
    def decode(value: Any) -> Any:
        if len(_exactly(list, value)) != len(decoders):
            raise BadBody(f"it has {len(value)} parts, but {len(decoders)} are expected")
        return tuple([decode(item) for decode, item in zip(decoders, value, strict=True)])

    return decode


def _map_of(key: _Decoder, item: _Decoder) -> _Decoder:
    return lambda value: {key(name): item(each) for name, each in _exactly(dict, value).items()}


def _link_spec(value: Any) -> LinkSpec:
    try:
        return LinkSpec.from_wire(_exactly(dict, value))
    except ValueError as error:
        raise BadBody(str(error)) from None


def _checked(check: _Decoder) -> _Decoder:
    def decode(value: Any) -> Any:
        try:
            return check(value)
        except ValueRefused as refused:
            raise BadBody(str(refused) if refused.path else f"it {refused}") from None

    return decode


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), type(value).__name__)


_KINDS: dict[type[Any], str] = {
    type(None): "nothing",
    int: "an integer",
    float: "a number",
    str: "a string",
    bytes: "bytes",
    bool: "true or false",
    dict: "a map",
    list: "a list",
}

U8 = Annotated[int, _integer(2**8 - 1)]
U16 = Annotated[int, _integer(2**16 - 1)]
U32 = Annotated[int, _integer(2**32 - 1)]
U64 = Annotated[int, _integer(2**64 - 1)]
Name = Annotated[str, _checked(checked_name)]
"""A name or a key; it becomes part of an index in Postgres, which has less room than a column."""
Json = Annotated[Any, _checked(partial(plain_value, limit=MAX_JSON_BYTES))]
"""A plain value that the protocol carries without knowing what it means."""
Value = Annotated[Any, _checked(plain_value)]
"""A value that a role publishes."""
Row = Annotated[dict[str, Any], _checked(lambda row: plain_value(_exactly(dict, row)))]
"""A row that a role reports."""
