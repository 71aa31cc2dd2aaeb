"""Test the quoting of values."""

from __future__ import annotations

import math
import tomllib

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.render.quoting import compose, toml

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXTS
VALUES = st.recursive(
    SCALARS,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(TEXTS, below, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_toml_gives_every_value_back(value: object) -> None:
    assert tomllib.loads(f"x = {toml(value)}") == {"x": value}


@given(st.floats(allow_nan=False))
def test_toml_gives_every_number_back(value: float) -> None:
    read = tomllib.loads(f"x = {toml(value)}")["x"]
    assert read == value or (math.isinf(value) and math.isinf(read))


@given(st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc", "Cn", "Co"])))
def test_compose_gives_every_text_back_and_replaces_no_variables(text: str) -> None:
    read = yaml.safe_load(f"x: {compose(text)}")["x"]
    assert read.replace("$$", "$") == text
    assert "$" not in read.replace("$$", "")


def test_toml_has_no_none() -> None:
    with pytest.raises(TypeError, match="NoneType"):
        toml(None)
