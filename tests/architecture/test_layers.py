"""Check the import contracts, and which files import the native module."""

import ast
import configparser
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

from scripts.import_cycles import find_cycle

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = Path(__file__).with_name("importlinter.ini")


def test_every_import_contract_is_kept() -> None:
    assert lint_imports(config_filename=str(CONTRACTS), no_cache=True) == EXIT_STATUS_SUCCESS


def test_the_page_shows_the_layers_of_the_contract() -> None:
    contracts = configparser.ConfigParser()
    contracts.read(CONTRACTS)
    lines = contracts["importlinter:contract:layers"]["layers"].split("\n")
    layers = [set(re.findall(r"\w+", line)) for line in lines if line]
    page = (ROOT / "docs/concepts/architecture.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (`[^|]*) \|", page, re.MULTILINE)
    assert [set(re.findall(r"\w+", packages)) for _, packages in rows] == layers
    assert [int(number) for number, _ in rows] == list(range(len(layers), 0, -1))


def test_no_modules_import_each_other() -> None:
    assert find_cycle(ROOT) == []


@pytest.mark.parametrize(
    ("again", "cycle"),
    [
        ("from pack.one import x", ["pack.one", "pack.two", "pack.one"]),
        ("from pack import x", ["pack", "pack.one", "pack.two", "pack"]),
        ("def f():\n    import pack.one", []),
        ("if TYPE_CHECKING:\n    import pack.one", []),
        ("try:\n    import pack.one\nexcept ImportError:\n    pass", ["pack.one", "pack.two", "pack.one"]),
    ],
)
def test_a_cycle_of_imports_is_found(tmp_path: Path, again: str, cycle: list[str]) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack/__init__.py").write_text("from pack import one\nfrom pack.one import x\n")
    (tmp_path / "pack/one.py").write_text("import pack.two\n")
    (tmp_path / "pack/two.py").write_text(again + "\n")
    found = find_cycle(tmp_path, ["pack"])
    assert set(found) == set(cycle)
    assert len(found) == len(cycle)


def test_only_the_agents_dataplane_and_the_python_api_import_the_native_core() -> None:
    violations = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in python_files("orchestrator")
        for module, line in imported_modules(path)
        if module.split(".")[0] == "nextmini_py" and path != ROOT / "orchestrator/node/dataplane.py"
    ]
    assert violations == []


def test_the_python_api_reaches_the_compiled_module_by_its_relative_name_only() -> None:
    violations = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in python_files("orchestrator", "benchmarks", "scripts", "scenarios")
        for module, line in imported_modules(path)
        if "_native" in module.split(".")
    ]
    assert violations == []


def python_files(*folders: str) -> Iterator[Path]:
    """Yield the Python files under folders of the repository."""
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def imported_modules(path: Path) -> Iterator[tuple[str, int]]:
    """Yield each module that a file imports, wherever in the file, with the line."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module, node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
