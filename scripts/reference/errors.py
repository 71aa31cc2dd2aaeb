"""Generate the page of errors: the trees, and every id with its sentence.

Ids are found where they are raised, in the syntax trees of the packages: the `id` of a class, the `id=` of
a raise, and the second argument of `problems.add`. Placeholders in sentences are shown as `…`. The exit code
is that of the class that is raised.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from scripts.reference.text import anchor, table

ROOT = Path(__file__).resolve().parents[2]
# What these rooms note about a file is prefixed with the kind of file that is being read.
ANY_FILE = ("fields", "source")
AREAS = {"topology": "topology", "scenario": "scenario", "settings": "settings"}

INTRODUCTION = """# Errors

Every error has a stable id, which scripts and searches can hold on to while the sentences improve. On a
terminal an error shows the place, the sentence, a hint on its own line, and the id last:

```text
topologies/campus.yaml:14:11  link 1-9 names node 9, which is not defined
    hint: nodes are numbered 1 to 4

1 problem, nothing was started  [topology.invalid]
```

With `-o json` the same is JSON on stderr:

```json
{"error": {"id": "topology.invalid", "message": "…", "place": {"file": "…", "line": 14, "column": 11},
           "found": "9", "expected": "…", "hint": "…", "problems": []}}
```
"""


FILE_INVALID = 2
"""The exit code of whatever is noted as a problem of a file."""


@dataclass(frozen=True, order=True)
class Entry:
    """One id, what is said with it, and what `nm` exits with then."""

    id: str
    message: str
    hint: str = ""
    code: int = FILE_INVALID


def page() -> str:
    """Return the page."""
    import nextmini_py.errors
    import orchestrator.errors

    parts = [INTRODUCTION, "## The tree of `nm`\n", _tree(orchestrator.errors.__doc__)]
    parts.append(
        "The number is the exit code. It is the same wherever an error is met: a mistake that the controller "
        "notices has the code that it has when the command line notices it.\n"
    )
    grouped: dict[str, list[Entry]] = defaultdict(list)
    for entry in sorted(set(entries())):
        grouped[entry.id.split(".")[0]].append(entry)
    any_file = grouped.pop("*", [])
    parts.append("## In files of any kind\n")
    parts.append("The id begins with the kind of file: `topology`, `scenario` or `settings`.\n")
    parts.append(_entries(any_file))
    for area, found in sorted(grouped.items()):
        parts.append(f"## {area}\n")
        parts.append(_entries(found))
    parts.append("## The tree of `nextmini_py`\n")
    parts.append(_tree(nextmini_py.errors.__doc__))
    rows = [
        (
            f'<a id="nextmini-{anchor(cls.id)}"></a>`{cls.id}`',
            f"`{cls.__name__}`",
            " ".join((cls.__doc__ or "").split("\n\n")[0].split()),
        )
        for cls in vars(nextmini_py.errors).values()
        if isinstance(cls, type) and issubclass(cls, nextmini_py.errors.NextminiError)
    ]
    parts.append(table(["Id", "Class", ""], sorted(rows)))
    return "\n".join(parts)


def entries(package: str = "") -> Iterator[Entry]:
    """Yield every id that the orchestrator, or one package of it, can raise."""
    trees = _trees()
    codes = _exit_codes(tree for _, tree in trees)
    for package_name, tree in trees:
        if package not in ("", package_name):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                yield from _of_class(node, codes)
            elif isinstance(node, ast.Call):
                yield from _of_call(node, package_name, codes)


@cache
def _trees() -> list[tuple[str, ast.Module]]:
    """Return every module of the orchestrator with the package that it is in."""
    return [
        (path.relative_to(ROOT / "orchestrator").parts[0], ast.parse(path.read_text()))
        for path in sorted((ROOT / "orchestrator").rglob("*.py"))
    ]


def _exit_codes(trees: Iterable[ast.Module]) -> dict[str, int]:
    """Return the exit code of every class of errors, by its name: its own, or that of its first base."""
    own: dict[str, int] = {}
    bases: dict[str, str] = {}
    for node in (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        for base in node.bases[:1]:
            bases[node.name] = base.id if isinstance(base, ast.Name) else ""
        stated = _attribute(node, "exit_code")
        if isinstance(stated, ast.Constant) and isinstance(stated.value, int):
            own[node.name] = stated.value
        elif isinstance(stated, ast.Attribute) and isinstance(stated.value, ast.Name):
            bases[node.name] = stated.value.id  # `exit_code = UsageError.exit_code`
    codes = {}
    for name in bases:
        at = name
        while at not in own and at in bases:
            at = bases[at]
        if at in own:
            codes[name] = own[at]
    return codes


def _attribute(node: ast.ClassDef, name: str) -> ast.expr | None:
    """Return what a class assigns to an attribute in its body."""
    for statement in node.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=found)], value=value) if found == name:
                return value
            case ast.AnnAssign(target=ast.Name(id=found), value=value) if found == name:
                return value
    return None


def _of_class(node: ast.ClassDef, codes: Mapping[str, int]) -> Iterator[Entry]:
    found = _constant(_attribute(node, "id"))
    if found and "." in found and found != "nm.error":
        said = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
        yield Entry(found, said, code=codes[node.name])


def _of_call(node: ast.Call, package_name: str, codes: Mapping[str, int]) -> Iterator[Entry]:
    words = {keyword.arg: keyword.value for keyword in node.keywords}
    hint = _sentence(words.get("hint"))
    if "id" in words:
        found = _constant(words["id"])
        if found and "." in found and node.args:
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            stated = words.get("exit_code")
            own = stated.value if isinstance(stated, ast.Constant) and isinstance(stated.value, int) else None
            code = own if own is not None else codes.get(name, FILE_INVALID)
            yield Entry(found, _sentence(node.args[0]), hint, code)
        return
    is_note = isinstance(node.func, ast.Attribute) and node.func.attr == "add" and len(node.args) >= 3
    suffix = _constant(node.args[1]) if is_note else None
    if suffix:
        area = AREAS.get(package_name, "*" if package_name in ANY_FILE else "")
        full = suffix if "." in suffix else f"{area}.{suffix}" if area else ""
        if full:
            yield Entry(full, _sentence(node.args[0]), hint)


def _constant(node: ast.expr | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _sentence(node: ast.expr | None) -> str:
    """Return the text of a literal or formatted string; what is only known at run time becomes `…`."""
    if node is None or (isinstance(node, ast.Constant) and node.value is None):
        return ""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_sentence(part) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _sentence(node.left) + _sentence(node.right)
    return "…"


def _entries(found: list[Entry]) -> str:
    rows = []
    seen = set()
    for entry in found:
        mark = "" if entry.id in seen else f'<a id="{anchor(entry.id)}"></a>'
        seen.add(entry.id)
        message = re.sub(r"(…\s?)+", "… ", entry.message).strip()
        hint = entry.hint if entry.hint.strip("… ") else ""
        rows.append((f"{mark}`{entry.id}`", str(entry.code), message, hint))
    return table(["Id", "Code", "Says", "Hint"], rows)


def _tree(docstring: str | None) -> str:
    """Return the drawing in a module's docstring: its indented block."""
    lines = [line[4:] for line in (docstring or "").splitlines() if line.startswith("    ")]
    return "```text\n" + "\n".join(lines) + "\n```\n"
