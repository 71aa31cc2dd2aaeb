"""Check that every module has a docstring and a bounded length."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 450
PYTHON = sorted(
    path
    for folder in ("orchestrator", "nextmini_py", "scripts", "scenarios", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
)
RUST = sorted(
    path
    for path in (ROOT / "dataplane").rglob("*.rs")
    if not {"target", "tests", "tests.rs"} & set(path.relative_to(ROOT).parts)
)


def test_every_python_module_opens_with_what_it_is_for() -> None:
    silent = [path for path in PYTHON if not ast.get_docstring(ast.parse(path.read_text()))]
    assert [str(path.relative_to(ROOT)) for path in silent] == []


def test_every_rust_module_opens_with_what_it_is_for() -> None:
    silent = [path for path in RUST if not path.read_text().lstrip().startswith(("//!", "#!"))]
    assert [str(path.relative_to(ROOT)) for path in silent] == []


def test_no_file_exceeds_the_line_limit() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in [*PYTHON, *RUST]}
    assert {path: lines for path, lines in lengths.items() if lines > LONGEST} == {}
