"""Test the YAML reader: core schema, places, refused constructs."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import Place
from orchestrator.source import Problems, Value, parse_yaml


def test_every_value_and_key_knows_its_place() -> None:
    root = _read("a: 1\nb:\n  - x\n  - {c: yes}\n")
    assert root.plain() == {"a": 1, "b": ["x", {"c": "yes"}]}
    items = root.data["b"].sequence if isinstance(root.data, dict) else None
    assert items is not None
    assert items[0].place == Place("f.yaml", 3, 5)
    assert items[1].get("c") is not None
    assert items[1].place_of("c") == Place("f.yaml", 4, 9)
    assert items[1].key_place("c") == Place("f.yaml", 4, 6)


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("2001-01-01", "2001-01-01"),
        ("010", 10),
        ("0x1f", 31),
        ("0o17", 15),
        ("1e3", 1000.0),
        ("'5'", "5"),
        ("true", True),
        ("~", None),
        ("1_000", "1_000"),
        ("9" * 50, "9" * 50),
    ],
)
def test_plain_words_mean_what_yaml_1_2_says(text: str, data: object) -> None:
    assert _read(f"a: {text}").plain() == {"a": data}


def test_numbers_as_keys_become_text() -> None:
    assert _read("1: a\n2: b").plain() == {"1": "a", "2": "b"}


def test_anchors_and_merges_work_and_explicit_keys_win() -> None:
    text = "x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}\nz: {<<: [*x, {c: 4}]}\nw: *x\n"
    plain = _read(text).plain()
    assert isinstance(plain, dict)
    assert plain["y"] == {"a": 1, "b": 3}
    assert plain["z"] == {"a": 1, "b": 2, "c": 4}
    assert plain["w"] == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("text", "id", "line", "column"),
    [
        ("a: 1\na: 2", "yaml.duplicate-key", 2, 1),
        ("a: !!python/object/apply:os.system ['x']", "yaml.tag", 1, 4),
        ("a: !secret 5", "yaml.tag", 1, 4),
        ("a: &a [*a]", "yaml.loop", 1, 4),
        ("a:\n\tb: 1", "yaml.syntax", 2, 1),
        ("a: [1, 2", "yaml.syntax", 1, 9),
        ("a: b: c", "yaml.syntax", 1, 5),
        ("a: 1\n---\nb: 2", "yaml.syntax", 2, 1),
        ("a: *nowhere", "yaml.syntax", 1, 4),
        ("? [a]\n: 1", "yaml.key", 1, 3),
        ("a: {<<: 5}", "yaml.merge", 1, 9),
        ("", "yaml.empty", 0, 0),
        ("# nothing\n", "yaml.empty", 0, 0),
    ],
)
@pytest.mark.parametrize("loader", ["CSafeLoader", "SafeLoader"])
def test_what_is_not_sound_is_refused_at_its_place(
    text: str, id: str, line: int, column: int, loader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yaml, "CSafeLoader", getattr(yaml, loader))
    problems = Problems("test")
    parse_yaml(text, "f.yaml", problems)
    assert [(p.id, p.place) for p in problems] == [(id, Place("f.yaml", line, column))]


def test_a_tab_is_named_as_what_it_is() -> None:
    problems = Problems("test")
    parse_yaml("a:\n\tb: 1", "f.yaml", problems)
    assert [(p.message, p.hint) for p in problems] == [("a tab cannot indent YAML", "indent with spaces")]


def test_a_file_cannot_unfold_to_millions() -> None:
    lines = ["a0: &a0 [" + ", ".join(["x"] * 9) + "]"]
    lines += [f"a{i}: &a{i} [" + ", ".join([f"*a{i - 1}"] * 9) + "]" for i in range(1, 9)]
    problems = Problems("test")
    assert parse_yaml("\n".join(lines), "f.yaml", problems) is None
    assert [p.id for p in problems] == ["yaml.too-many"]


def test_values_cannot_be_nested_without_end() -> None:
    problems = Problems("test")
    assert parse_yaml("[" * 300 + "]" * 300, "f.yaml", problems) is None
    assert [p.id for p in problems] == ["yaml.too-deep"]


def test_control_characters_are_refused() -> None:
    problems = Problems("test")
    assert parse_yaml("a: \x07", "f.yaml", problems) is None
    assert len(problems) == 1


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    problems = Problems("test")
    value = parse_yaml(text, "f.yaml", problems)
    assert value is not None or len(problems)


def _read(text: str) -> Value:
    problems = Problems("test")
    value = parse_yaml(text, "f.yaml", problems)
    assert not list(problems)
    assert value is not None
    return value
