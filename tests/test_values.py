"""Test the validation of values."""

from __future__ import annotations

import enum
import json
import math
import os
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.values import (
    MAX_DEPTH,
    MAX_NAME_BYTES,
    MAX_VALUE_BYTES,
    ValueRefused,
    checked_name,
    plain_value,
    safe_text,
)

# `scripts/fuzz_values.py` raises it.
EXAMPLES = int(os.environ.get("NM_FUZZ_EXAMPLES", "200"))


class Colour(enum.StrEnum):
    RED = "red"


class Old(str, enum.Enum):  # noqa: UP042  # what older scenarios have
    RED = "red"


class Number(enum.IntEnum):
    THREE = 3


class Hostile:
    """An object whose every question ends in an error."""

    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__

    def item(self) -> Any:
        raise RuntimeError("no")


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def wide(depth: int) -> Any:
    """A value of 10 ** depth elements that takes no memory, because all share their parts."""
    value: Any = [1]
    for _ in range(depth):
        value = [value] * 10
    return value


def looped() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("value", "becomes"),
    [
        ({"a": (1, 2.5, None, True)}, {"a": [1, 2.5, None, True]}),
        ([2**64 - 1, -(2**63)], [2**64 - 1, -(2**63)]),
        ([Colour.RED, Old.RED, Number.THREE], ["red", "red", 3]),
        ([np.float32(0.5), np.int64(7), np.bool_(True), np.str_("x")], [0.5, 7, True, "x"]),
        (nested(MAX_DEPTH), nested(MAX_DEPTH)),
        ("😀 ü", "😀 ü"),
    ],
)
def test_what_is_plain_comes_back_as_json_would_bring_it(value: Any, becomes: Any) -> None:
    plain = plain_value(value)
    assert plain == becomes
    assert json.loads(json.dumps(plain)) == plain


@pytest.mark.parametrize(
    ("value", "path", "says"),
    [
        ({"a": 2**70}, "a", "71 bits"),
        ({"a": -(2**63) - 1}, "a", "64 bits"),
        ({"a": 10**5000}, "a", "16610 bits"),
        ({"a": ["x", "\ud800"]}, "a[1]", "surrogate"),
        ({"a": {"b": "x\0"}}, "a.b", "character 0"),
        ({"a": math.nan}, "a", "nan"),
        ({"a": [math.inf]}, "a[0]", "inf"),
        ({"a": b"x"}, "a", "bytes"),
        ({"a": {1: 2}}, "a", "the key 1"),
        ({"a\ud800": 1}, "(a key)", "surrogate"),
        ({"a": {1, 2}}, "a", "set"),
        ({"a": np.zeros(3)}, "a", "tolist"),
        ({"a": object()}, "a", "object"),
        ({"a": Hostile()}, "a", "Hostile"),
        ("x" * (MAX_VALUE_BYTES + 1), "", "bytes"),
        (["x" * 600_000] * 3, "", "bytes"),
        (wide(12), "", "bytes"),
        (np.float64("nan"), "", "nan"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_place(value: Any, path: str, says: str) -> None:
    with pytest.raises(ValueRefused) as caught:
        plain_value(value)
    assert caught.value.path == path
    assert says in str(caught.value)
    assert str(caught.value).isprintable()
    assert caught.value.expected


@pytest.mark.parametrize("value", [nested(MAX_DEPTH + 1), nested(500), nested(100_000), looped()])
def test_what_is_nested_too_deeply_is_refused_without_following_it(value: Any) -> None:
    with pytest.raises(ValueRefused, match="nested more than 32 deep"):
        plain_value(value)


def test_a_measurement_that_is_not_a_number_may_become_null_but_an_infinity_may_not() -> None:
    assert plain_value({"rtt": math.nan, "n": 1}, nan="null") == {"rtt": None, "n": 1}
    with pytest.raises(ValueRefused):
        plain_value(-math.inf, nan="null")


def test_a_name_is_a_text_of_bounded_size() -> None:
    assert checked_name("port of node-1") == "port of node-1"
    assert checked_name("é" * (MAX_NAME_BYTES // 2))
    for wrong in ("", "a\0", "\ud800", 7, None, b"x", "k" * 6000, "é" * (MAX_NAME_BYTES // 2 + 1)):
        with pytest.raises(ValueRefused):
            checked_name(wrong)


def test_a_text_is_made_safe_and_says_what_was_cut() -> None:
    assert safe_text("a\0b\ud800c") == "a\ufffdb\ufffdc"
    assert safe_text("\ud83d\ude00") == "😀"
    long = safe_text("begin" + "x" * 100_000 + "end", limit=1000)
    assert long.startswith("begin") and long.endswith("end") and "were cut here" in long
    assert len(long.encode()) <= 1000
    assert "RuntimeError" in safe_text(Hostile())


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.binary(max_size=8) | st.text(max_size=8)
)
texts = st.text(st.characters(), max_size=12)  # surrogates and the character 0 included
anything = st.recursive(
    scalars | texts | st.complex_numbers(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(texts | st.integers() | st.none(), inner, max_size=4)
    ),
    max_leaves=40,
)


@given(anything)
@settings(max_examples=EXAMPLES, deadline=None)
@example([-0.0, 5e-324, 1.7976931348623157e308])
@example({"": ""})
@example([2**64])
@example("\ud83d\ude00")
@example({"\0": 1})
def test_whatever_passes_survives_msgpack_and_json_and_whatever_does_not_is_refused(value: Any) -> None:
    try:
        plain = plain_value(value, limit=1000)
    except ValueRefused as refused:
        str(refused).encode()
        return
    packed = msgpack.packb(plain, use_bin_type=True)
    assert len(packed) <= 1000
    assert msgpack.unpackb(packed, raw=False) == plain
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain_value(plain) == plain


@given(st.text(st.characters()) | anything, st.integers(100, 300))
@settings(max_examples=EXAMPLES, deadline=None)
@example("é" * 200, 101)
@example("\ud83d\ude00" * 60, 100)
def test_a_safe_text_is_utf8_of_bounded_size(text: Any, limit: int) -> None:
    safe = safe_text(text, limit=limit)
    assert "\0" not in safe
    assert len(safe.encode()) <= limit
