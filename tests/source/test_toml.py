"""Test the TOML reader and its places."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import Place
from orchestrator.source import Problems, Value, parse_toml

TEXT = '''\
# a comment with = and [brackets]
a = 1
"quoted key" = "x = y"   # "
list = [
  1, # one
  "]",
]
text = """
[not.a.table]
b = 2
"""

[table]
key = 'it''s'
[table.sub]
deep.er = true

[[items]]
n = 1
[[items]]
n = 2
[items.part]
m = 3
'''.replace("'it''s'", '"its"')


def test_the_data_is_tomllibs() -> None:
    assert _read(TEXT).plain() == tomllib.loads(TEXT)


@pytest.mark.parametrize(
    ("path", "line", "column"),
    [
        (("a",), 2, 5),
        (("quoted key",), 3, 16),
        (("list",), 4, 8),
        (("text",), 8, 8),
        (("table", "key"), 14, 7),
        (("table", "sub", "deep", "er"), 16, 11),
    ],
)
def test_every_value_has_its_place(path: tuple[str, ...], line: int, column: int) -> None:
    assert _read(TEXT).place_of(*path) == Place("f.toml", line, column)


def test_elements_of_arrays_of_tables_are_told_apart() -> None:
    items = _read(TEXT).get("items")
    assert items is not None
    assert items.sequence is not None
    assert [item.place_of("n").line for item in items.sequence] == [19, 21]
    assert items.sequence[1].place_of("part", "m") == Place("f.toml", 23, 5)


@pytest.mark.parametrize(
    ("text", "line"), [("a = ", 1), ("a = 1\na = 2\n", 2), ("[a\n", 1), ("ok = 1\nbad = \x07\n", 2)]
)
def test_a_broken_file_is_refused_at_its_line(text: str, line: int) -> None:
    problems = Problems("test")
    assert parse_toml(text, "f.toml", problems) is None
    (problem,) = problems
    assert problem.id == "toml.syntax"
    assert problem.place is not None
    assert problem.place.line == line


KEYS = st.text(st.characters(categories=["Ll", "Lu", "Nd"]), min_size=1, max_size=8)
SCALARS = (
    st.integers(-(2**62), 2**62)
    | st.booleans()
    | st.text(st.characters(exclude_categories=["C"]), max_size=20)
)


@given(st.dictionaries(KEYS, SCALARS | st.dictionaries(KEYS, SCALARS, max_size=3), max_size=6))
def test_any_document_keeps_its_data_and_finds_its_lines(data: dict[str, object]) -> None:
    lines = []
    tables = {key: value for key, value in data.items() if isinstance(value, dict)}
    for key, value in data.items():
        if key not in tables:
            lines.append(f"{_quoted(key)} = {_shown(value)}")
    for key, table in tables.items():
        lines.append(f"[{_quoted(key)}]")
        lines += [f"{_quoted(name)} = {_shown(value)}" for name, value in table.items()]
    root = _read("\n".join(lines))
    assert root.plain() == data
    for key, value in data.items():
        line = lines[root.key_place(key).line - 1]
        assert line.startswith(f"[{_quoted(key)}]" if isinstance(value, dict) else f"{_quoted(key)} = ")


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else _quoted(str(value))


def _read(text: str) -> Value:
    problems = Problems("test")
    value = parse_toml(text, "f.toml", problems)
    assert not list(problems)
    assert value is not None
    return value
