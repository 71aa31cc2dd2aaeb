"""Select nodes by number, range, name, pattern or label: `1,3-4`, `w*`, `tier=core`, `all`, `rest`.

The same syntax is used in groups, in a scenario's roles and by `nm exec`. A part that matches no node is an
error.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from orchestrator.errors import UsageError, nearest_hint, quoted

__all__ = ["Named", "SelectorInvalid", "describe_nodes", "select", "unknown_node_hint"]

_RANGE = re.compile(r"(\d+)\s*-\s*(\d+)")
_LABEL = re.compile(r"([^=]+)=(.*)")


class Named(Protocol):
    """What a selector looks at in a node."""

    @property
    def name(self) -> str:
        """Return the node's name."""
        ...

    @property
    def labels(self) -> Mapping[str, str]:
        """Return the node's labels."""
        ...


class SelectorInvalid(UsageError):
    """A selector does not name any node; `reason` is the sentence without what was typed."""

    id = "selector.invalid"

    def __init__(self, found: str, reason: str, hint: str | None = None) -> None:
        super().__init__(
            f"`{found}` {reason}", found=found, expected="ids, names, globs, label=value", hint=hint
        )
        self.reason = reason


def select(
    expression: str | int | Iterable[str | int],
    nodes: Mapping[int, Named],
    *,
    taken: Collection[int] | None = None,
    of_all: Collection[int] | None = None,
) -> tuple[int, ...]:
    """Return the ids of the nodes that are meant, in order and each once.

    Args:
        expression: A selector, or several; text may hold several with commas between them.
        nodes: All nodes by id.
        taken: What others have selected already; `rest` is everything else. None where `rest` has no meaning.
        of_all: What `all` means; every node unless given.

    Raises:
        SelectorInvalid: A part is malformed or matches no node.
    """
    parts: Iterable[str | int] = [expression] if isinstance(expression, (str, int)) else expression
    chosen: set[int] = set()
    for part in parts:
        words = [part] if isinstance(part, int) else part.split(",")
        for word in words:
            chosen.update(_one(str(word).strip(), nodes, taken, of_all))
    if not chosen and not any(_is_rest(part) for part in parts):
        raise SelectorInvalid(str(expression), "names no node", _known_hint(nodes))
    return tuple(sorted(chosen))


def describe_nodes(nodes: Mapping[int, Named]) -> str:
    """Return the nodes for a hint: the names people gave, or else the range of ids."""
    given = [node.name for number, node in sorted(nodes.items()) if node.name != f"node-{number}"]
    span = f"1 to {max(nodes)}" if len(nodes) > 1 else "1"
    if not nodes:
        return "none"
    return f"{span}, also called {quoted(given)}" if given else span


def unknown_node_hint(name: str, nodes: Mapping[int, Named]) -> str | None:
    """Return a hint for a name that is no node's."""
    names = [] if name.isdecimal() else [node.name for node in nodes.values()]
    return nearest_hint(name, names, otherwise=f"nodes defined here are {describe_nodes(nodes)}")


def _one(
    word: str, nodes: Mapping[int, Named], taken: Collection[int] | None, of_all: Collection[int] | None
) -> Iterable[int]:
    if word == "all":
        return nodes if of_all is None else of_all
    if word == "rest":
        if taken is None:
            raise SelectorInvalid(word, "has no meaning here", "write the nodes, or `all`")
        return [number for number in nodes if number not in taken]
    if word.isdecimal():
        return [_known(int(word), word, nodes)]
    if span := _RANGE.fullmatch(word):
        return _span(word, int(span[1]), int(span[2]), nodes)
    if label := _LABEL.fullmatch(word):
        return _labelled(word, label[1].strip(), label[2].strip(), nodes)
    return _called(word, nodes)


def _span(word: str, first: int, last: int, nodes: Mapping[int, Named]) -> Iterable[int]:
    if first > last:
        raise SelectorInvalid(word, "runs backwards", f"write `{last}-{first}`")
    # A range may be absurdly long, so its ends are looked at first; nodes between them may have been removed.
    _known(first, word, nodes)
    _known(last, word, nodes)
    return [number for number in range(first, last + 1) if number in nodes]


def _labelled(word: str, key: str, value: str, nodes: Mapping[int, Named]) -> Iterable[int]:
    found = [number for number, node in nodes.items() if node.labels.get(key) == value]
    if found:
        return found
    values = sorted({node.labels[key] for node in nodes.values() if key in node.labels})
    if values:
        raise SelectorInvalid(word, "matches no node", f"values of `{key}` are {quoted(values)}")
    keys = sorted({name for node in nodes.values() for name in node.labels})
    hint = f"labels here are {quoted(keys)}" if keys else "no node has a label"
    raise SelectorInvalid(word, "matches no node", hint)


def _called(word: str, nodes: Mapping[int, Named]) -> Iterable[int]:
    if any(char in word for char in "*?["):
        from fnmatch import fnmatchcase

        found = [number for number, node in nodes.items() if fnmatchcase(node.name, word)]
        if not found:
            raise SelectorInvalid(word, "matches no node", _known_hint(nodes))
        return found
    for number, node in nodes.items():
        if node.name == word or word == f"node-{number}":
            return [number]
    if not word:
        raise SelectorInvalid(word, "is empty", _known_hint(nodes))
    raise SelectorInvalid(word, "is no node", unknown_node_hint(word, nodes))


def _known(number: int, word: str, nodes: Mapping[int, Named]) -> int:
    if number not in nodes:
        raise SelectorInvalid(
            word, "is no node" if str(number) == word else "leaves the topology", _known_hint(nodes)
        )
    return number


def _known_hint(nodes: Mapping[int, Named]) -> str:
    return f"nodes are {describe_nodes(nodes)}"


def _is_rest(part: str | int) -> bool:
    return isinstance(part, str) and "rest" in [word.strip() for word in part.split(",")]
