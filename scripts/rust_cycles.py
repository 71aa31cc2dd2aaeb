"""Find import cycles between the modules of each Rust crate: `python -m scripts.rust_cycles`.

A module depends on another when its code names an item that the other one defines, in a `use` or in a path.
Re-exports are followed to the definition, so a parent that only declares and re-exports its children depends
on none of them. A file with an `impl` block of a type that a module above it defines counts as a part of that
module: methods of one type that are spread over files are still one unit. Code under `#[cfg(test)]` does not
count.

Not seen: items that macros make, and methods called on a value whose type is never named.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path as File
from typing import TypeAlias

__all__ = ["Crate", "cycles", "main", "read_crate"]

DATAPLANE = File(__file__).resolve().parent.parent / "dataplane"

Path: TypeAlias = tuple[str, ...]
"""The names of a module or an item, from the root of its crate."""

_IGNORED = re.compile(
    r"""//[^\n]*|/\*.*?\*/|b?r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"|b?'(?:\\.[^']*|[^\\'])'""", re.DOTALL
)
_TEST = re.compile(r"#\[cfg\((?:test|all\(test\b[^\]]*)\)\]\s*(?:#\[[^\]]*\]\s*)*")
_MODULE = re.compile(r"\bmod\s+(\w+)\s*;")
_USE = re.compile(r"(\bpub(?:\([^)]*\))?\s+)?\buse\s+([^;]+);")
_PATH = re.compile(r"(?<![\w:.])(?:[a-z]\w*\s*::\s*)+\w+")
_DEFINED = re.compile(r"\b(?:struct|enum|trait|type|union|fn|const|static)\s+(\w+)")
_TYPE = re.compile(r"\b(?:struct|enum|union)\s+(\w+)")
_IMPL = re.compile(r"(?m)^impl\b\s*(?:<[^{]*?>\s*)?((?:\w+\s*::\s*)*\w+)[^{;]*?\{")


@dataclass
class Module:
    """What one file defines and names."""

    path: Path
    code: str
    children: set[str] = field(default_factory=set)
    defined: set[str] = field(default_factory=set)
    types: set[str] = field(default_factory=set)
    imported: dict[str, Path] = field(default_factory=dict)
    """The names that `use` brings in, each with the path that it stands for."""
    public: set[str] = field(default_factory=set)
    """Those of them that are re-exported."""


Crate: TypeAlias = Mapping[Path, Module]


def main() -> int:
    """Print every cycle; return 1 if there is one."""
    found = [
        f"{crate.parent.name}: {' -> '.join('::'.join(('crate', *path)) for path in cycle)}"
        for crate in sorted(DATAPLANE.glob("*/src"))
        for cycle in cycles(read_crate(crate))
    ]
    for each in found:
        print(each)
    return 1 if found else 0


def read_crate(source: File) -> Crate:
    """Read the modules below a folder `src`."""
    crate: dict[Path, Module] = {}
    waiting: list[tuple[Path, File, File]] = [((), source / "lib.rs", source)]
    while waiting:
        path, file, folder = waiting.pop()
        module = _read_module(path, file.read_text(encoding="utf-8"))
        crate[path] = module
        for name in module.children:
            below = folder / name
            beside = folder / f"{name}.rs"
            waiting.append(((*path, name), beside if beside.exists() else below / "mod.rs", below))
    return crate


def cycles(crate: Crate) -> list[list[Path]]:
    """Return one cycle after the other, each as the modules on it with the first one repeated at the end.

    A cycle is left out once it is found, so that the others are found too.
    """
    owner = {path: _owner(crate, module) for path, module in crate.items()}
    graph: dict[Path, set[Path]] = {path: set() for path in owner.values()}
    for path, module in crate.items():
        for named in _named(module):
            target = _resolve(crate, path, named)
            if target is not None and owner[target] != owner[path]:
                graph[owner[path]].add(owner[target])
    found: list[list[Path]] = []
    while True:
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            # The sorter lists each module before the one that depends on it.
            cycle = list(reversed(error.args[1]))
            found.append(cycle)
            for source, target in pairwise(cycle):
                graph[source].discard(target)
        else:
            return found


def _read_module(path: Path, text: str) -> Module:
    code = _without_tests(_IGNORED.sub(" ", text))
    module = Module(path, code)
    module.children.update(_MODULE.findall(code))
    module.defined.update(_DEFINED.findall(code))
    module.types.update(_TYPE.findall(code))
    for public, tree in _USE.findall(code):
        for name, target in _use_tree(tree):
            module.imported[name] = target
            if public:
                module.public.add(name)
    return module


def _without_tests(code: str) -> str:
    """Remove every item under `#[cfg(test)]`: up to its semicolon, or to the end of its braces."""
    while match := _TEST.search(code):
        depth, at = 0, match.end()
        while at < len(code):
            depth += {"{": 1, "}": -1}.get(code[at], 0)
            at += 1
            if depth == 0 and code[at - 1] in ";}":
                break
        code = code[: match.start()] + code[at:]
    return code


def _use_tree(tree: str) -> Iterator[tuple[str, Path]]:
    """Yield each name that a `use` brings in and its path: `a::{b, c as d}` gives b and d."""
    tree = " ".join(tree.split())
    if "{" in tree:
        prefix, _, rest = tree.partition("{")
        for part in _split(rest[: rest.rindex("}")]):
            yield from _use_tree(prefix + part)
        return
    target, _, name = tree.partition(" as ")
    path = tuple(part.strip() for part in target.split("::"))
    if path[-1] == "self":
        path = path[:-1]
    yield name.strip() or path[-1], path


def _split(parts: str) -> Iterator[str]:
    depth, start = 0, 0
    for at, char in enumerate(parts + ","):
        depth += {"{": 1, "}": -1}.get(char, 0)
        if char == "," and depth == 0:
            if part := parts[start:at].strip():
                yield part
            start = at + 1


def _owner(crate: Crate, module: Module) -> Path:
    """Return the module that a file is a part of: that of a type above it which the file implements."""
    for written in _IMPL.findall(module.code):
        name = tuple(part.strip() for part in written.split("::"))
        target = _resolve(crate, module.path, name)
        above = target is not None and target != module.path and module.path[: len(target)] == target
        if above and target is not None and name[-1] in crate[target].types:
            return _owner(crate, crate[target])
    return module.path


def _named(module: Module) -> Iterator[Path]:
    """Yield the paths of the items that a module names, other than those that it re-exports."""
    for name, path in module.imported.items():
        if name not in module.public:
            yield path
    for match in _PATH.findall(_USE.sub("", module.code)):
        yield tuple(part.strip() for part in match.split("::"))


def _resolve(crate: Crate, module: Path, path: Path) -> Path | None:
    """Return the module that defines an item; `None` when it is none of this crate.

    A path to a module itself names no item: what the module is used for follows in a path of its own.
    """
    at = module
    parts = list(path)
    if parts[0] == "crate":
        at, parts = (), parts[1:]
    elif parts[0] == "self":
        parts = parts[1:]
    else:
        explicit = parts[0] == "super"
        while parts and parts[0] == "super":
            at, parts = at[:-1], parts[1:]
        first = crate[at]
        known = parts and (
            parts[0] in first.imported or parts[0] in first.children or parts[0] in first.defined
        )
        if not explicit and not known:
            return None
    for index, part in enumerate(parts):
        here = crate[at]
        if part == "*":
            return at
        if part in here.children:
            at = (*at, part)
        elif part in here.imported and here.imported[part] != path:
            return _resolve(crate, at, (*here.imported[part], *parts[index + 1 :]))
        elif part in here.defined:
            return at
        else:
            return None
    return None


if __name__ == "__main__":
    sys.exit(main())
