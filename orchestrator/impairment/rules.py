"""What one field of a link specification may be, and how it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

__all__ = [
    "CLASS_KEYS",
    "DISTRIBUTIONS",
    "MOST_QUANTILES",
    "MOST_TRACE_BYTES",
    "MOST_WEIGHTS",
    "QUEUES",
    "SCHEDULERS",
    "TABLE",
    "FieldKind",
    "FieldRule",
    "Impossible",
    "checked",
    "of",
    "share",
]

DISTRIBUTIONS = ("normal", "uniform", "pareto")
"""How a delay with jitter may be distributed, a table of the user's own aside."""

TABLE = "table"
"""The distribution of a delay that a table states."""

QUEUES = ("taildrop", "red", "codel")
"""When a queue may drop or mark packets."""

SCHEDULERS = ("fifo", "drr", "priority")
"""In which order queued packets may be transmitted."""

CLASS_KEYS = ("flow", "dst_port", "src_port", "source", "destination", "dscp")
"""The property of a packet by which a scheduler may sort it."""

MOST_QUANTILES = 256
"""The most numbers of a jitter table."""

MOST_WEIGHTS = 1_024
"""The most classes of a scheduler that have a weight of their own."""

MOST_TRACE_BYTES = 3 * 2**20
"""The most bytes of an encoded trace; it travels in one control message, of at most 4 MiB."""

_MOST = 2**63 - 1
"""What messages and Postgres can hold."""


class Impossible(ValueError):
    """No link can have these values together; `hint` says what helps."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class FieldKind(Enum):
    """What a field holds, and so how it is written for people."""

    RATE = "bits per second"
    DURATION = "microseconds"
    SIZE = "bytes"
    COUNT = "a whole number"
    PROBABILITY = "a probability"
    NUMBER = "a number"
    FLAG = "true or false"
    WORD = "a word"
    NUMBERS = "a list of numbers"
    WEIGHTS = "a weight for each class"
    TEXT = "text"
    DATA = "the content of a trace"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldRule:
    """One field of `LinkSpec`.

    Attributes:
        key: The key of the topology file to which it belongs.
        kind: What it holds.
        help: What it says, for the reference.
        least: The smallest number.
        most: The largest number.
        words: Which words there are.
        part: What the field is called in the mapping that is the full form of its key.
        main: The field of the same key without which it means nothing.
    """

    key: str
    kind: FieldKind
    help: str
    least: float = 0
    most: float = _MOST
    words: tuple[str, ...] = ()
    part: str = ""
    main: str = ""


def of(key: str, kind: FieldKind, help: str, *, compare: bool = True, **rule: Any) -> Any:
    """Return a field of `LinkSpec`; without `compare`, equal specifications may differ in it."""
    made = FieldRule(key=key, kind=kind, help=help, **rule)
    data = kind is FieldKind.DATA
    hashed = kind is not FieldKind.WEIGHTS and compare
    return field(default=None, metadata={"rule": made}, hash=hashed, compare=compare, repr=not data)


def share(key: str, help: str, **rule: Any) -> Any:
    """Return a field that is a probability."""
    return of(key, FieldKind.PROBABILITY, help, most=1, **rule)


def checked(name: str, rule: FieldRule, value: Any) -> Any:
    """Return the value of a field in the form in which it is kept."""
    kind = rule.kind
    if kind is FieldKind.NUMBERS:
        if not isinstance(value, list | tuple) or not 2 <= len(value) <= MOST_QUANTILES:
            raise ValueError(f"{name} is no list of numbers: 2 to {MOST_QUANTILES} numbers are expected")
        return tuple(_number(name, rule, item, whole=False) for item in value)
    if kind is FieldKind.WEIGHTS:
        return _weights(name, rule, value)
    if kind is FieldKind.TEXT or kind is FieldKind.DATA:
        if type(value) is not (str if kind is FieldKind.TEXT else bytes):
            raise ValueError(f"{name} is {_short(value)}, but {kind.value} is expected")
        if len(value) > rule.most:
            raise ValueError(f"{name} is longer than {rule.most:,}")
        return value
    if kind is FieldKind.WORD or kind is FieldKind.FLAG:
        wanted, expected = (str, "a word") if kind is FieldKind.WORD else (bool, "true or false")
        if type(value) is not wanted:
            raise ValueError(f"{name} is {_short(value)}, but {expected} is expected")
        if kind is FieldKind.WORD and value not in rule.words:
            raise ValueError(f"{name} is {_short(value)}, but is one of {', '.join(rule.words)}")
        return value
    return _number(name, rule, value, whole=kind not in (FieldKind.PROBABILITY, FieldKind.NUMBER))


def _number(name: str, rule: FieldRule, value: Any, *, whole: bool) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise ValueError(f"{name} is {_short(value)}, but a number is expected")
    if rule.least <= value <= rule.most:  # false for a NaN
        return value if whole else float(value)
    if rule.kind is FieldKind.PROBABILITY:
        raise ValueError(f"{name} is {_short(value)}, but a probability lies between 0 and 1")
    if name == "loss_burst" and not value > rule.most:
        raise ValueError(f"the mean burst is {_short(value)}, but a burst has at least one packet")
    if value > rule.most:
        raise ValueError(f"{name} is too large: at most {rule.most:,} is expected")
    raise ValueError(f"{name} is {_short(value)}, but at least {rule.least:g} is needed")


def _weights(name: str, rule: FieldRule, value: Any) -> dict[int, int]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} is {_short(value)}, but a weight for each class is expected")
    if len(value) > MOST_WEIGHTS:
        raise ValueError(f"{name} has {len(value):,} classes, but at most {MOST_WEIGHTS:,} are expected")
    read: dict[int, int] = {}
    for number, weight in value.items():
        text = str(number)
        if isinstance(number, bool) or not (text.isascii() and text.isdecimal() and len(text) <= 10):
            raise ValueError(f"{name} has the class {_short(number)}, but a number is expected")
        if int(text) > 2**32 - 1:
            raise ValueError(f"{name} has the class {text}, but at most {2**32 - 1} is expected")
        read[int(text)] = int(_number(f"the weight of {text}", rule, weight, whole=True))
    return dict(sorted(read.items()))


def _short(value: Any) -> str:
    """Return a value for a message; a number of thousands of digits cannot even be written."""
    if isinstance(value, int) and value.bit_length() > 64:
        return "an integer of more than 64 bits"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
