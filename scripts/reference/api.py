"""Generate the pages of the two Python packages from docstrings and stubs."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from scripts.reference.text import heading

ROOT = Path(__file__).resolve().parents[2]
SECTIONS = ("Args", "Returns", "Raises", "Yields", "Attributes", "Example", "Examples", "Source", "Note")
Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

NEXTMINI = """# `nextmini_py`

The Python API of a node. A role of a scenario gets it as `ctx.dataplane`; a program of your own uses it to
[be an external node](../how-to/external-node.md). Native threads process all packets, and calls release the
interpreter lock.
"""
ORCHESTRATOR = """# `orchestrator`

The SDK, which the command line uses for everything. Blocking calls have asynchronous variants that
end in `_async`.

```python
from orchestrator import Lab

with Lab.up("topologies/ring.yaml", backend="native") as lab:
    out = lab.node(1).run(["ping", "-c", "1", lab.node(3).address])
    print(out.exit_code, out.stdout)
    run = lab.run_scenario("weights-sync", params={"rounds": 2})
    print(run.verdict)
```
"""


def nextmini_page() -> str:
    """Return the page of `nextmini_py`."""
    import nextmini_py

    return NEXTMINI + "\n" + _package("nextmini_py", [n for n in nextmini_py.__all__ if not _is_error(n)])


def orchestrator_page() -> str:
    """Return the page of the SDK."""
    import orchestrator.lab

    return ORCHESTRATOR + "\n" + _package("orchestrator/lab", list(orchestrator.lab.__all__))


def _is_error(name: str) -> bool:
    import nextmini_py

    value = getattr(nextmini_py, name)
    return isinstance(value, type) and issubclass(value, Exception)


def _package(folder: str, names: list[str]) -> str:
    found: dict[str, Definition] = {}
    for path in sorted([*(ROOT / folder).glob("*.py"), *(ROOT / folder).glob("*.pyi")]):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, Definition):
                found.setdefault(node.name, node)
    parts = [_definition(found[name]) for name in names if name in found]
    return "\n".join(parts)


def _definition(node: Definition) -> str:
    if not isinstance(node, ast.ClassDef):
        return "\n".join(_function(node, node.name, 2))
    parts = [heading(2, node.name), _prose(ast.get_docstring(node)), ""]
    for member in _members(node):
        parts.extend(_function(member, f"{node.name}.{member.name}", 3))
    return "\n".join(parts)


def _members(node: ast.ClassDef) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for member in node.body:
        if not isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        public = not member.name.startswith("_") or member.name in ("__init__", "__new__")
        if public and ast.get_docstring(member):
            yield member


def _function(node: ast.FunctionDef | ast.AsyncFunctionDef, name: str, level: int) -> list[str]:
    is_property = any(isinstance(d, ast.Name) and d.id == "property" for d in node.decorator_list)
    title = name.split(".")[0] if node.name in ("__init__", "__new__") else name
    return [
        f"{'#' * level} `{title}{'' if is_property else '()'}`\n",
        f"```python\n{_signature(node, is_property)}\n```\n",
        _prose(ast.get_docstring(node)),
        "",
    ]


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef, is_property: bool) -> str:
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    if is_property:
        return f"{node.name}{returns.replace(' ->', ':')}"
    arguments = ast.unparse(node.args)
    arguments = re.sub(r"^(self|cls)(, )?", "", arguments)
    prefix = "await " if isinstance(node, ast.AsyncFunctionDef) else ""
    line = f"{prefix}{node.name}({arguments}){returns}"
    if len(line) <= 100:
        return line
    return f"{prefix}{node.name}(\n    " + ",\n    ".join(_split(arguments)) + f",\n){returns}"


def _split(arguments: str) -> list[str]:
    """Split at the commas that stand outside of brackets."""
    parts, depth, start = [], 0, 0
    for index, letter in enumerate(arguments):
        depth += letter in "[({"
        depth -= letter in "])}"
        if letter == "," and depth == 0:
            parts.append(arguments[start:index].strip())
            start = index + 1
    return [*parts, arguments[start:].strip()]


def _prose(docstring: str | None) -> str:
    """Return a docstring in Google's style as Markdown."""
    lines = inspect.cleandoc(docstring or "").splitlines()
    parts: list[str] = []
    index = 0
    while index < len(lines):
        section = re.fullmatch(rf"({'|'.join(SECTIONS)}):", lines[index])
        if not section:
            parts.append(lines[index])
            index += 1
            continue
        body = []
        index += 1
        while index < len(lines) and (not lines[index].strip() or lines[index].startswith(" ")):
            body.append(lines[index])
            index += 1
        text = inspect.cleandoc("\n" + "\n".join(body))
        parts.append(f"**{'Arguments' if section[1] == 'Args' else section[1]}**\n")
        parts.append(_example(text) if section[1].startswith("Example") else _items(text, section[1]))
        parts.append("")
    return re.sub(r"``([^`]+)``", r"`\1`", "\n".join(parts)).strip() + "\n"


def _example(text: str) -> str:
    return f"```pycon\n{text}\n```" if text.startswith(">>>") else f"```python\n{text}\n```"


def _items(text: str, section: str) -> str:
    if section in ("Returns", "Yields", "Source", "Note"):
        return text
    items: list[str] = []
    for line in text.splitlines():
        named = re.match(r"(\*{0,2}[\w.]+)(?: \([^)]*\))?: (.*)", line)
        if named and not line.startswith(" "):
            items.append(f"- `{named[1]}`: {named[2]}")
        elif line.strip():
            items.append(f"  {line.strip()}")
    return "\n".join(items)
