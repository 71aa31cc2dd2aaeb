"""Collect nodes and links of another program's file, and write them as a topology file.

Names are made valid, links that stand twice are taken once, and whatever is left out or decided on the way is
kept as a sentence. The text is loaded before it is returned, so what an importer writes is a valid file.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.errors import ImportInvalid, Place, Problem, TopologyInvalid, counted
from orchestrator.topology.language import LAB_NAME
from orchestrator.topology.loader import loads
from orchestrator.topology.nodes import RESERVED_NAMES, STANDARD_NAME
from orchestrator.topology.writing import flow, word

__all__ = ["Draft", "Imported", "comment", "header", "lab_name", "label_key", "label_value", "node_name"]

_SHOWN = 5
"""So many nodes, links or keys are named in a sentence."""
_WIDTH = 110
# What a topology file can hold, with a dozen values at each link (`orchestrator.source.yaml`).
_MOST_NODES = 10_000
_MOST_LINKS = 15_000


@dataclass(frozen=True, slots=True)
class Imported:
    """A topology file made from files of another program.

    Attributes:
        text: The file, which loads unless a note says otherwise.
        notes: What could not be carried over, a sentence each.
        remarks: What was decided on the way, a sentence each.
        files: What it was made from.
    """

    text: str
    notes: tuple[str, ...]
    remarks: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


@dataclass(slots=True)
class _Node:
    name: str
    labels: Mapping[str, str]
    comment: str


@dataclass(slots=True)
class _Link:
    a: int
    b: int
    forward: Mapping[str, Any]
    backward: Mapping[str, Any] | None
    """None while only one direction has been seen."""


@dataclass(slots=True)
class Draft:
    """What has been found so far.

    Attributes:
        file: The file as the user typed it.
        format: What kind of file it is, for the comment at the top.
        name: The lab's name; made valid when the text is written.
        sections: Further lines at the end of the text.
    """

    file: str
    format: str
    name: str = ""
    sections: list[str] = field(default_factory=list)
    _nodes: dict[str, int] = field(default_factory=dict)
    _written: dict[int, _Node] = field(default_factory=dict)
    _taken: dict[str, int] = field(default_factory=dict)
    _links: dict[tuple[int, int], _Link] = field(default_factory=dict)
    _lost: dict[str, dict[str, None]] = field(default_factory=dict)
    _remarks: dict[str, dict[str, None]] = field(default_factory=dict)
    _renamed: list[str] = field(default_factory=list)

    def lose(self, what: str, *of: str) -> None:
        """Note that something cannot be carried over; notes that differ in `of` alone become one sentence."""
        self._lost.setdefault(what, {}).update(dict.fromkeys(filter(None, of)))

    def remark(self, what: str, *of: str) -> None:
        """Note what was decided; as `lose`."""
        self._remarks.setdefault(what, {}).update(dict.fromkeys(filter(None, of)))

    def node(self, key: str, text: str = "", labels: Mapping[str, str] | None = None, about: str = "") -> int:
        """Add a node; return its number.

        Args:
            key: What links call it.
            text: Its name in the other file, if that is not the key.
            labels: Its labels, already valid.
            about: A comment.
        """
        number = len(self._nodes) + 1
        if number > _MOST_NODES:
            self._too_large(f"more than {_MOST_NODES} nodes")
        self._nodes[key] = number
        text = text or key
        standard = text in (str(number), f"node-{number}")
        name = "" if standard else self._free(node_name(text))
        changed = text if name != text and not standard else ""
        if changed:
            self._renamed.append(changed)
        parts = [part for part in (changed, about) if part]
        self._written[number] = _Node(name, labels or {}, ", ".join(parts))
        return number

    def number(self, key: str) -> int | None:
        """Return the number of a node; None if there is none of that key."""
        return self._nodes.get(key)

    def called(self, number: int) -> str:
        """Return what the topology file calls a node."""
        return self._written[number].name or f"node-{number}"

    @property
    def nodes(self) -> int:
        """Return how many nodes there are."""
        return len(self._written)

    def link(
        self,
        a: int,
        b: int,
        forward: Mapping[str, Any] | None = None,
        backward: Mapping[str, Any] | None = None,
        *,
        directed: bool = False,
    ) -> None:
        """Add a link.

        Args:
            a: Its first end.
            b: Its second end.
            forward: Its keys from `a` to `b`.
            backward: Its keys from `b` to `a`; the same unless given.
            directed: Whether the other file says something about one direction alone.
        """
        shown = f"{self.called(a)}–{self.called(b)}"
        if a == b:
            self.lose("links from a node to itself", self.called(a))
            return
        known = self._links.get((min(a, b), max(a, b)))
        forward = forward or {}
        if known is None:
            if len(self._links) >= _MOST_LINKS:
                self._too_large(f"more than {_MOST_LINKS} links")
            back = None if directed else forward if backward is None else backward
            self._links[min(a, b), max(a, b)] = _Link(a, b, forward, back)
        elif directed and known.backward is None and known.a == b:
            known.backward = forward
        else:
            self.lose("links beside another one of the same nodes; the first was taken", shown)

    def finish(self) -> Imported:
        """Return the topology file.

        Raises:
            ImportInvalid: What was found makes no topology.
        """
        one_way = [link for link in self._links.values() if link.backward is None]
        for link in one_way:
            shown = f"{self.called(link.a)}→{self.called(link.b)}"
            self.remark("links that stand in one direction only carry packets both ways", shown)
        if self._renamed:
            changed = f"{counted(len(self._renamed), 'name')} of nodes changed to be valid; the originals are"
            self.remark(f"{changed} comments")
        self._warn()
        notes, remarks = _sentences(self._lost), _sentences(self._remarks)
        text = header(self.file, self.format, notes, remarks) + self._body()
        return Imported(text, notes, remarks, (self.file,))

    def _warn(self) -> None:
        """Load the text, and keep warnings about it as remarks."""
        place = Place(self.file)
        try:
            loaded = loads(self._body(), self.file)
        except TopologyInvalid as error:
            problems = [
                Problem(
                    f"what is in the file makes no topology: {problem.message}",
                    problem.id,
                    place,
                    problem.found,
                    problem.expected,
                    problem.hint,
                )
                for problem in error.problems
            ]
            raise ImportInvalid(problems, file=self.file) from error
        for warning in loaded.warnings:
            self.remark(warning.message)

    def _body(self) -> str:
        lines = [f"name: {word(lab_name(self.name))}", f"n_nodes: {len(self._written)}"]
        shown = {number: line for number, node in self._written.items() if (line := _node_line(node))}
        if shown:
            lines += ["nodes:", *(f"  {number}: {line}" for number, line in shown.items())]
        if self._links:
            lines += ["links:", *(f"  - {flow(self._entry(link))}" for link in self._links.values())]
        return "\n".join([*lines, *self.sections]) + "\n"

    def _entry(self, link: _Link) -> dict[str, Any]:
        entry: dict[str, Any] = {"endpoints": [self._written[end].name or end for end in (link.a, link.b)]}
        if link.backward is None or link.backward == link.forward:
            return {**entry, **link.forward}
        sides = {"forward": dict(link.forward), "backward": dict(link.backward)}
        return {**entry, **{side: keys for side, keys in sides.items() if keys}}

    def _free(self, name: str) -> str:
        """Return the name, or a variant that no other node and nothing else has; empty if there is none."""
        if not name:
            return ""
        if STANDARD_NAME.fullmatch(name) or name.casefold() in RESERVED_NAMES:
            name = f"n-{name}"[:63].rstrip("-_")
        candidate = name
        # Counting goes on where it ended, so that thousands of equal names are not tried again and again.
        while candidate.casefold() in self._taken:
            self._taken[name.casefold()] = count = self._taken[name.casefold()] + 1
            candidate = f"{name[:56].rstrip('-_')}-{count}"
        self._taken[candidate.casefold()] = 1
        return candidate

    def _too_large(self, what: str) -> None:
        problem = Problem(f"the file has {what}", "import.too-large", Place(self.file))
        raise ImportInvalid([problem], file=self.file)


def node_name(text: str) -> str:
    """Return text as a valid name of a node; empty if nothing of it can be used.

    Example:
        >>> node_name("São Paulo (2)")
        'Sao-Paulo-2'
    """
    slug = re.sub(r"[^A-Za-z0-9_-]+", "-", _ascii(text)).strip("-_")
    if slug and not slug[0].isalpha():
        slug = f"n{slug}"
    return slug[:63].rstrip("-_")


def label_value(text: str) -> str:
    """Return text as a valid value of a label; empty if nothing of it can be used."""
    slug = re.sub(r"[^A-Za-z0-9_.:/+@-]+", "-", _ascii(text)).strip("-")
    return re.sub(r"^[^A-Za-z0-9]+", "", slug)[:63]


def label_key(text: str) -> str:
    """Return text as a valid name of a label; empty if nothing of it can be used."""
    slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", _ascii(text))
    return re.sub(r"^[^A-Za-z]+", "", slug)[:63].rstrip("_.-")


def lab_name(text: str) -> str:
    """Return text as a valid name of a lab; `imported` if nothing of it can be used."""
    slug = re.sub(r"[^a-z0-9]+", "-", _ascii(text).lower())[:40].strip("-")
    return slug if re.fullmatch(LAB_NAME, slug) else "imported"


def header(file: str, format: str, notes: Iterable[str], remarks: Iterable[str] = ()) -> str:
    """Return the comment at the top of an imported file."""
    lines = [f"# Imported from {comment(file)} ({format})."]
    for title, sentences in (("Not carried over", notes), ("Notes", remarks)):
        shown = [f"#   - {comment(sentence, 300)}" for sentence in sentences]
        lines += ["#", f"# {title}:", *shown] if shown else []
    return "\n".join(lines) + "\n\n"


def comment(text: str, width: int = _WIDTH) -> str:
    """Return text on one line, without characters that YAML does not take."""
    shown = " ".join(text.split())
    shown = shown if shown.isprintable() else shown.encode("unicode_escape").decode("ascii")
    return shown if len(shown) <= width else shown[:width] + "…"


def _node_line(node: _Node) -> str:
    keys: dict[str, Any] = {"name": node.name} if node.name else {}
    if node.labels:
        keys["labels"] = dict(node.labels)
    if not keys and not node.comment:
        return ""
    return flow(keys) + (f"  # {comment(node.comment)}" if node.comment else "")


def _sentences(notes: Mapping[str, Mapping[str, None]]) -> tuple[str, ...]:
    found = []
    for what, of in notes.items():
        shown = ", ".join(list(of)[:_SHOWN]) + (f" and {len(of) - _SHOWN} more" if len(of) > _SHOWN else "")
        found.append(comment(f"{what}: {shown}" if of else what, 300))
    return tuple(found)


def _ascii(text: str) -> str:
    """Return text without accents and without what has no counterpart in ASCII."""
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
