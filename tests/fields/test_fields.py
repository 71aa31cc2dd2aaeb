"""Test strict reading of tables, and their JSON Schema."""

from __future__ import annotations

import pytest

from orchestrator import units
from orchestrator.errors import Problem
from orchestrator.fields import (
    Anything,
    Boolean,
    Choice,
    Field,
    Integer,
    ListOf,
    MapOf,
    Number,
    OrNone,
    Table,
    Text,
    Unit,
)
from orchestrator.source import Problems, parse_yaml

DELAY = OrNone(Unit(units.parse_duration, "a duration such as `20 ms`", pattern=".*", examples=("20 ms",)))
TABLE = Table(
    "thing",
    {
        "count": Field(Integer(1, 10), "how many", required=True),
        "share": Field(Number(0, 1), "how much", default=0.5),
        "on": Field(Boolean()),
        "word": Field(Text(r"[a-z]+", "small letters", hint="no capitals")),
        "mode": Field(Choice("slow", "fast", later={"warp": "beyond light"})),
        "delay": Field(DELAY),
        "wait": Field(Unit(units.parse_duration, "a duration", pattern=".*", most=units.Duration(5_000))),
        "items": Field(ListOf(Integer(), "item", least=1, most=3)),
        "pair": Field(ListOf(Integer(), "end", least=2, most=2)),
        "map": Field(MapOf("[a-z]", "a letter", Integer(), "entry *")),
        "any": Field(Anything()),
    },
    later={"jitter": "delay that varies"},
    private=True,
    hints={"bandwidth": "did you mean `count`?"},
)


def test_what_is_right_is_read() -> None:
    text = (
        "{count: 3, on: true, word: abc, mode: fast, delay: 20 ms, wait: 5 ms, items: [1], pair: [1, 2], "
        "map: {a: 1}, x-mine: whatever}"
    )
    read, problems = _read(text)
    assert problems == []
    assert read == {
        "count": 3,
        "on": True,
        "word": "abc",
        "mode": "fast",
        "delay": units.Duration(20_000),
        "wait": units.Duration(5_000),
        "items": [1],
        "pair": [1, 2],
        "map": {"a": 1},
    }
    assert TABLE.fill(read)["share"] == 0.5


def test_none_removes_an_inherited_value() -> None:
    assert _read("{count: 1, delay: none}")[0] == {"count": 1, "delay": "none"}


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("{}", "thing needs the key `count`", "add `count: …`, how many"),
        ("{count: 0}", "count is `0`, but at least 1 is needed", None),
        ("{count: 11}", "count is `11`, but at most 10 fits", None),
        ("{count: 1.5}", "count is `1.5`, but a whole number is expected", None),
        ("{count: true}", "count is `true`, but a whole number is expected", None),
        ("{count: }", "count is empty, but a whole number is expected", None),
        ("{count: [1]}", "count is a list, but a whole number is expected", None),
        ("{count: 1, cuont: 2}", "unknown key `cuont` in thing", "did you mean `count`?"),
        ("{count: 1, bandwidth: 2}", "unknown key `bandwidth` in thing", "did you mean `count`?"),
        ("{count: 1, jitter: 2}", "`jitter` is not built yet: delay that varies", "remove the key; it would"),
        ("{count: 1, word: a, and more}", "unknown key `and more` in thing", "text with a comma or a colon"),
        ("{count: 1, share: 2}", "share is `2`, but at most 1 fits", None),
        ("{count: 1, share: x}", "share is `x`, but a number is expected", None),
        ("{count: 1, on: yes}", "on is `yes`, but true or false is expected", "write `true`"),
        ("{count: 1, word: ABC}", "word is `ABC`, but small letters is expected", "no capitals"),
        ("{count: 1, word: 5}", "word is `5`, but small letters is expected", "put it in quotes"),
        ('{count: 1, word: "a\\nb"}', "word is `a\\nb`, but small letters is expected", "no capitals"),
        (
            "{count: 1, mode: fats}",
            "mode is `fats`, but one of `slow`, `fast` is expected",
            "did you mean `fast`?",
        ),
        ("{count: 1, mode: warp}", "mode `warp` is not built yet", "it would mean beyond light"),
        ("{count: 1, delay: 5}", "delay is `5`, but it needs a unit", "write `5 ms` or `5 s`"),
        ("{count: 1, delay: true}", "delay is `true`, but a duration such as `20 ms` is expected", None),
        ("{count: 1, wait: 6 ms}", "wait is `6 ms`, but at most 5 ms fits", None),
        ("{count: 1, items: []}", "items has 0 elements, but a list of at least 1 is expected", None),
        ("{count: 1, items: 5}", "items is `5`, but a list of at least 1 is expected", None),
        ("{count: 1, pair: [1]}", "pair has 1 elements, but a list of exactly 2 is expected", None),
        ("{count: 1, map: {AB: 1}}", "`AB` in map is not a letter", None),
        ("{count: 1, map: {a: x}}", "entry a is `x`, but a whole number is expected", None),
        ("[1]", "the thing is a list, but a mapping is expected", "known keys are `count`"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(text: str, message: str, hint: str | None) -> None:
    _, problems = _read(text)
    assert [problem.message for problem in problems] == [message]
    (problem,) = problems
    assert problem.place is not None
    if hint is None:
        assert problem.hint is None
    else:
        assert problem.hint is not None
        assert problem.hint.startswith(hint)


def test_all_problems_are_found_at_once_in_the_order_of_the_file() -> None:
    _, problems = _read("on: yes\ncount: 0\ncuont: 1\n")
    assert [problem.place.line for problem in problems if problem.place] == [1, 2, 3]


def test_the_schema_says_the_same() -> None:
    schema = TABLE.schema()
    assert schema["required"] == ["count"]
    assert schema["additionalProperties"] is False
    assert schema["patternProperties"] == {"^x-": {}}
    assert schema["properties"]["count"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 10,
        "description": "how many",
    }
    assert schema["properties"]["mode"] == {"enum": ["slow", "fast"]}
    assert {"const": "none"} in schema["properties"]["delay"]["anyOf"]


def _read(text: str) -> tuple[dict[str, object], list[Problem]]:
    problems = Problems("test")
    value = parse_yaml(text, "f.yaml", problems)
    assert value is not None
    return TABLE.read(value, "the thing", problems) or {}, problems.in_order()
