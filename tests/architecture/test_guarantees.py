"""Check that the page of guarantees names existing tests."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import LONGEST

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/reference/guarantees.md"
ROWS = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and "::" in line]
TEST = re.compile(r"`([^`]+)::([^`]+)`")
NAMES = sorted({name for row in ROWS for name in TEST.findall(row)})


@cache
def names_in(file: Path) -> set[str]:
    """The tests of a file of Python or Rust."""
    text = file.read_text()
    if file.suffix == ".py":
        functions = (ast.FunctionDef, ast.AsyncFunctionDef)
        return {node.name for node in ast.parse(text).body if isinstance(node, functions)}
    attributes = r"#\[(?:tokio::)?test[^]]*\]"
    return set(re.findall(rf"{attributes}(?:\s*#\[[^]]*\])*\s*(?:async )?fn (\w+)", text))


@pytest.mark.parametrize(("file", "name"), NAMES, ids=lambda part: str(part))
def test_a_test_on_the_page_exists(file: str, name: str) -> None:
    assert (ROOT / file).is_file(), f"{PAGE.name} names {file}"
    assert name in names_in(ROOT / file), f"{PAGE.name} names {file}::{name}"


def test_every_line_names_a_test_and_says_something_else() -> None:
    tables = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    lines = [line for line in tables if not line.startswith(("| ---", "| Guaranteed |"))]
    assert lines == ROWS
    said = [line.split("|")[1].strip() for line in lines]
    assert len(set(said)) == len(said) and all(each.endswith(".") for each in said)


def test_the_files_that_start_first_exist() -> None:
    """A file that was renamed would otherwise lose its place without notice."""
    tests = ROOT / "tests"
    assert [name for name in LONGEST if not (tests / name).is_file()] == []
