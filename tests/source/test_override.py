"""Test `--set`."""

from __future__ import annotations

import pytest

from orchestrator.source import Problems, Value, apply_override, parse_yaml

TEXT = "a: {b: 1}\nlinks:\n  - {loss: 0}\n  - {loss: 0}\nempty:\nword: x\n"


@pytest.mark.parametrize(
    ("option", "plain"),
    [
        ("a.b=2", {"a": {"b": 2}}),
        ("a.c.d=10 Mbit", {"a": {"b": 1, "c": {"d": "10 Mbit"}}}),
        ("links.1.loss=1 %", {"links": [{"loss": 0}, {"loss": "1 %"}]}),
        ("links.0={}", {"links": [{}, {"loss": 0}]}),
        ("empty.x=[1, 2]", {"empty": {"x": [1, 2]}}),
        ("new=a=b", {"new": "a=b"}),
        ("word=true", {"word": True}),
    ],
)
def test_values_are_yaml_and_paths_are_made(option: str, plain: dict[str, object]) -> None:
    root, problems = _apply(option)
    assert not list(problems)
    shown = root.plain()
    assert isinstance(shown, dict)
    assert {key: shown[key] for key in plain} == plain


def test_what_was_laid_down_stands_at_the_option() -> None:
    root, _ = _apply("a.c={d: 1}")
    assert str(root.place_of("a", "c", "d")) == "--set a.c={d: 1}"
    assert str(root.place_of("a", "b")) == "f.yaml:1:8"


@pytest.mark.parametrize(
    ("option", "id"),
    [
        ("a.b", "set.form"),
        ("=5", "set.form"),
        ("a..b=5", "set.form"),
        ("a.b=", "set.form"),
        ("a.b=[1", "set.value"),
        ("links.7.loss=0", "set.index"),
        ("links.x.loss=0", "set.index"),
        ("word.x=0", "set.path"),
    ],
)
def test_options_that_cannot_be_laid_are_refused_at_the_option(option: str, id: str) -> None:
    root, problems = _apply(option)
    (problem,) = problems
    assert (problem.id, str(problem.place)) == (id, f"--set {option}")
    assert root.plain() == _apply("a.b=1")[0].plain()


def _apply(option: str) -> tuple[Value, Problems]:
    problems = Problems("test")
    root = parse_yaml(TEXT, "f.yaml", problems)
    assert root is not None
    apply_override(root, option, problems)
    return root, problems
