"""Find cycles among the imports that modules make while they are loaded: `python -m scripts.import_cycles`.

The contracts in `tests/architecture/importlinter.ini` compare the packages and modules of one level. This
check also finds a package's `__init__` and a module of it that import each other, and it covers benchmarks
and scripts. Imports inside functions and for type checkers are not made while a module is loaded.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

__all__ = ["FOLDERS", "find_cycle", "main"]

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("orchestrator", "nextmini_py", "benchmarks", "scripts")


def find_cycle(root: Path, folders: Sequence[str] = FOLDERS) -> list[str]:
    """Return the modules of one cycle, the first again at the end; nothing if there is none."""
    # The compiled module is there as its stub.
    found = (path for folder in folders for path in sorted((root / folder).rglob("*.py*")))
    paths = {_name(path, root): path for path in found if path.suffix in (".py", ".pyi")}
    graph = {name: set(_imported(name, path, paths)) for name, path in paths.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        # graphlib goes from what is imported to what imports it.
        cycle: list[str] = error.args[1]
        return cycle[::-1]
    return []


def _name(path: Path, root: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def _imported(name: str, path: Path, modules: dict[str, Path]) -> Iterator[str]:
    """Yield the modules of ours that one imports while it is loaded."""
    for node in _statements(ast.parse(path.read_text()).body):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module in modules:
            below = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (full for full in below if full in modules)
            # A package that imports its own modules is loaded already when they ask for one another.
            if not all(full in modules for full in below):
                yield node.module


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that are run while a module is loaded."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _statements(node.orelse)
            continue
        yield node
        for part in ("body", "orelse", "finalbody", "handlers"):
            yield from _statements(getattr(node, part, []))


def main() -> int:
    """Print a cycle, if there is one."""
    cycle = find_cycle(ROOT)
    if cycle:
        print("modules import each other: " + " → ".join(cycle))
    return 1 if cycle else 0


if __name__ == "__main__":
    sys.exit(main())
