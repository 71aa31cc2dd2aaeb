"""Build a tree of values with places from YAML text.

PyYAML's parser (the C one where available) turns the text into nodes with marks. The nodes are converted to
data here, because PyYAML's own constructors drop the places, let the last of two equal keys win, and read
`on` as true. PyYAML is imported by the first text that is parsed: a node reads only TOML and may not have it.
"""

from __future__ import annotations

import re
from typing import Any, TypeAlias

from orchestrator.errors import Place
from orchestrator.source.tree import Problems, Value

__all__ = ["parse_yaml"]

# Aliases may share nodes, not multiply them without end: eight levels of nine aliases would be 43 million
# values.
_MOST_VALUES = 200_000
_DEEPEST = 60

_INT = re.compile(r"[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_STANDARD = "tag:yaml.org,2002:"
_MERGE = _STANDARD + "merge"
_PLAIN_TAGS = {
    _STANDARD + name for name in ("str", "int", "float", "bool", "null", "timestamp", "value", "merge")
}
_SHOWN = 60

_Node: TypeAlias = Any  # a `yaml.Node`, told apart by `id`, which its stubs do not have


def parse_yaml(text: str, file: str, problems: Problems) -> Value | None:
    """Return the YAML document as values, or None after noting why there is none.

    Args:
        text: The document.
        file: The file's name for places.
        problems: Takes what is wrong; duplicate keys and unknown tags are noted and reading goes on.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        node = yaml.compose(text, Loader=loader)
    except yaml.YAMLError as error:
        _note_syntax(error, text, file, problems)
        return None
    except RecursionError:
        problems.add("values are nested too deeply", "yaml.too-deep", Place(file))
        return None
    if node is None:
        problems.add("the file is empty", "yaml.empty", Place(file), expected="a mapping")
        return None
    try:
        return _Builder(file, problems).build(node, 0)
    except _ParseAborted:
        return None


class _ParseAborted(Exception):
    """The document cannot be walked to its end; the reason has been noted."""


class _Builder:
    def __init__(self, file: str, problems: Problems) -> None:
        self._file = file
        self._problems = problems
        self._open: set[int] = set()
        self._count = 0

    def build(self, node: _Node, depth: int) -> Value:
        place = self._place(node)
        self._count += 1
        if self._count > _MOST_VALUES:
            self._give_up(f"the file unfolds to more than {_MOST_VALUES} values", "yaml.too-many", place)
        if depth > _DEEPEST:
            self._give_up("values are nested too deeply", "yaml.too-deep", place)
        if node.id == "scalar":
            return self._scalar(node, place)
        if id(node) in self._open:
            self._give_up("an anchor contains itself", "yaml.loop", place)
        self._open.add(id(node))
        value = (
            self._sequence(node, place, depth) if node.id == "sequence" else self._mapping(node, place, depth)
        )
        self._open.discard(id(node))
        return value

    def _scalar(self, node: _Node, place: Place) -> Value:
        if node.tag not in _PLAIN_TAGS:
            self._refuse_tag(node, place)
        text = str(node.value)
        shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
        if node.style:  # quoted or a block; the C parser says '' where the Python one says None
            return Value(text, place, shown)
        return Value(_resolve(text), place, shown)

    def _sequence(self, node: _Node, place: Place, depth: int) -> Value:
        if node.tag != _STANDARD + "seq":
            self._refuse_tag(node, place)
        return Value([self.build(item, depth + 1) for item in node.value], place)

    def _mapping(self, node: _Node, place: Place, depth: int) -> Value:
        if node.tag != _STANDARD + "map":
            self._refuse_tag(node, place)
        entries: dict[str, Value] = {}
        keys: dict[str, Place] = {}
        merged: list[Value] = []
        for key_node, value_node in node.value:
            key_place = self._place(key_node)
            if key_node.id != "scalar":
                self._problems.add("a key is a single word or number here", "yaml.key", key_place)
                continue
            if key_node.tag == _MERGE:
                merged.append(self.build(value_node, depth + 1))
                continue
            key = str(key_node.value)
            if key in keys:
                self._problems.add(
                    f"the key `{key}` is already there in line {keys[key].line}",
                    "yaml.duplicate-key",
                    key_place,
                    found=key,
                    hint="remove one of the two",
                )
                continue
            keys[key] = key_place
            entries[key] = self.build(value_node, depth + 1)
        for base in merged:
            self._merge(base, entries, keys)
        return Value(entries, place, keys=keys)

    def _merge(self, base: Value, entries: dict[str, Value], keys: dict[str, Place]) -> None:
        sources = base.sequence if base.sequence is not None else [base]
        for source in sources:
            if source.mapping is None:
                self._problems.add("`<<` takes a mapping or a list of mappings", "yaml.merge", source.place)
                continue
            for key, value in source.mapping.items():
                if key not in entries:
                    entries[key] = value
                    keys[key] = source.key_place(key)

    def _refuse_tag(self, node: _Node, place: Place) -> None:
        tag = node.tag.replace(_STANDARD, "!!")
        self._problems.add(
            f"the tag `{tag}` has no meaning here", "yaml.tag", place, found=tag, hint="remove the tag"
        )

    def _give_up(self, message: str, id: str, place: Place) -> None:
        self._problems.add(message, id, place)
        raise _ParseAborted

    def _place(self, node: _Node) -> Place:
        return Place(self._file, node.start_mark.line + 1, node.start_mark.column + 1)


def _resolve(text: str) -> str | int | float | bool | None:
    """Return what a plain scalar means by the core schema of YAML 1.2."""
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE"):
        return True
    if text in ("false", "False", "FALSE"):
        return False
    if _INT.fullmatch(text):
        # A number with more digits than any value needs stays text: converting it takes time that grows with
        # the square of its length.
        if len(text) > 40:
            return text
        # `010` is ten, as 1.2 has it.
        return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
    if _FLOAT.fullmatch(text) and len(text) <= 40:
        return float(text)
    return text


def _note_syntax(error: Exception, text: str, file: str, problems: Problems) -> None:
    """Turn a parser's complaint into one with a place and, where the cause is well known, a hint."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        position = getattr(error, "position", None)
        place = Place(file) if position is None else _place_at(text, position, file)
        problems.add("the file holds a character that YAML does not allow", "yaml.character", place)
        return
    lines = text.splitlines() or [""]
    place = Place(file, mark.line + 1, mark.column + 1)
    if mark.line >= len(lines):  # the end of the file, which is shown where the text ends
        place = Place(file, len(lines), len(lines[-1]) + 1)
    line = lines[place.line - 1]
    message = str(getattr(error, "problem", "") or "the text is not YAML")
    hint = None
    if "\t" in line[: mark.column + 1] or "\\t" in message:
        message, hint = "a tab cannot indent YAML", "indent with spaces"
    elif "did not find expected key" in message:
        message, hint = (
            "no key can begin here",
            "keys of one mapping start in one column: check the indentation",
        )
    elif "mapping values are not allowed" in message:
        hint = "put a value that contains `: ` in quotes, and check the indentation"
    elif "expected <block end>" in message or "expected ',' or" in message:
        hint = "check the indentation, and that every bracket and quote is closed"
    elif "expected a single document" in str(getattr(error, "context", "")) or "another document" in message:
        message, hint = "the file holds a second document", "remove `---` and what follows"
    problems.add(message, "yaml.syntax", place, found=line.strip()[:_SHOWN] or None, hint=hint)


def _place_at(text: str, position: int, file: str) -> Place:
    before = text[:position]
    return Place(file, before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1)
