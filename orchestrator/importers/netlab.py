"""Turn a netlab topology into a topology file: its nodes and groups, its links and their impairments.

A link of more than two nodes becomes a node of its own, the switch, and a link to each. Devices, modules and
addresses have no counterpart.

Source:
    https://netlab.tools/links/ and https://netlab.tools/nodes/: `bandwidth` and `tc.rate` are kbit/s,
    `tc.delay` and `tc.jitter` milliseconds, the other keys of `tc` per cent.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.importers.draft import Draft, Imported, label_value
from orchestrator.importers.units import conflict, plain_delay, plain_rate, plain_share
from orchestrator.importers.yamlfile import entries, items, raise_problems, read_document, text_of, wrong
from orchestrator.source import Problems, Value, named
from orchestrator.units import Duration

__all__ = ["read"]

_SHARES = ("loss", "corrupt", "duplicate", "reorder")
# What a link says about itself, and not about how it carries packets.
_SILENT = ("type", "name", "interfaces", "linkindex", "bridge", "role")
_DEEPEST = 8
_MOST_PARTS = 32


def read(path: str | os.PathLike[str], name: str) -> Imported:
    """Return what a netlab file means; see `orchestrator.importers.from_netlab`."""
    shown = named(path)
    problems = Problems("import")
    root = read_document(path, problems, needs="nodes", what="a netlab topology")
    draft = Draft(shown, "netlab", name or text_of(root.get("name")) or Path(shown).stem)
    groups = _groups(root, draft, problems)
    for key, node in _nodes(root.get("nodes"), problems):
        _add_node(key, node, root, groups, draft, problems)
    if not draft.nodes and not problems:
        problems.add("the topology has no nodes", "empty", root.place_of("nodes"), expected="`nodes`")
    for key, _ in entries(root, "the file", problems):
        if key.partition(".")[0] not in ("name", "nodes", "links", "groups", "defaults"):
            draft.lose(f"`{key}` of the file")
    _Links(draft, problems).add_all(root.get("links"), 0)
    raise_problems(problems, shown)
    return draft.finish()


def _nodes(value: Value | None, problems: Problems) -> Iterator[tuple[str, Value | None]]:
    """Yield the names and attributes of nodes, which stand as a mapping or as a list."""
    if value is None or value.sequence is None:
        yield from entries(value, "nodes", problems)
        return
    for item in value.sequence:
        name = text_of(item if item.mapping is None else item.get("name"))
        if name:
            yield name, item if item.mapping is not None else None
        else:
            wrong(item, "a node", "a name, or a mapping with `name`", problems)


def _groups(root: Value, draft: Draft, problems: Problems) -> dict[str, str]:
    """Return the first group of each node that is in one."""
    found: dict[str, str] = {}
    for group, value in entries(root.get("groups"), "groups", problems):
        if group.startswith("_"):
            draft.lose(f"`groups.{group}`")
            continue
        members = value if value.sequence is not None else value.get("members")
        for member in items(members, f"members of {group}", problems):
            if found.setdefault(text_of(member), group) != group:
                draft.lose("groups of nodes beyond the first", f"{text_of(member)} in {group}")
        for key, _ in entries(value if value.mapping is not None else None, group, problems):
            if key != "members":
                draft.lose(f"`{key}` of groups", group)
    return found


def _add_node(
    key: str,
    node: Value | None,
    root: Value,
    groups: Mapping[str, str],
    draft: Draft,
    problems: Problems,
) -> None:
    if draft.number(key) is not None:
        place = node.place if node is not None else root.place_of("nodes")
        problems.add(f"the node `{key[:60]}` is already there", "duplicate-node", place, found=key[:60])
        return
    own = dict(entries(node, f"node {key}", problems))
    defaults = root.get("defaults")
    default = defaults.get("device") if defaults is not None else root.get("defaults.device")
    device = text_of(own.get("device")) or text_of(default)
    labels = {"group": label_value(groups.get(key, "")), "device": label_value(device)}
    draft.node(key, labels={each: value for each, value in labels.items() if value})
    if device:
        draft.lose(f"device `{device}`", key)
    for each in own:
        if each not in ("name", "device"):
            draft.lose(f"`{each}` of nodes", key)


class _Links:
    """Adds links in all the forms that netlab has."""

    def __init__(self, draft: Draft, problems: Problems) -> None:
        self._draft = draft
        self._problems = problems
        self._switches = 0

    def add_all(self, links: Value | None, depth: int) -> None:
        """Add a list of links, or a mapping of lists."""
        if depth > _DEEPEST:
            return
        if links is not None and links.mapping is not None:
            for _, below in entries(links, "links", self._problems):
                self.add_all(below, depth + 1)
            return
        for link in items(links, "links", self._problems):
            if link.get("group") is not None and link.get("members") is not None:
                self.add_all(link.get("members"), depth + 1)
                self._draft.lose("names of groups of links", text_of(link.get("group")))
            else:
                self._add(link)

    def _add(self, link: Value) -> None:
        if link.mapping is not None:
            self._add_mapping(link)
        elif link.sequence is not None:
            names = [(text_of(item), item) for item in link.sequence]
            self._connect([(name, item, {}) for name, item in names], {}, link)
        else:
            names = [(name, link) for name in self._split(text_of(link))]
            self._connect([(name, item, {}) for name, item in names], {}, link)

    def _add_mapping(self, link: Value) -> None:
        ends: list[tuple[str, Value, Mapping[str, Any]]] = []
        for item in items(link.get("interfaces"), "interfaces", self._problems):
            name = text_of(item if item.mapping is None else item.get("node"))
            ends.append((name, item, self._keys(item, name, skip=("node",))))
        rest: dict[str, Value] = {}
        for key, value in entries(link, "a link", self._problems):
            if self._draft.number(key) is not None:
                ends.append((key, link, self._keys(value, key)))
            else:
                rest[key] = value
        about = "–".join(name for name, _, _ in ends)
        own = Value(rest, link.place, keys=link.keys)
        self._connect(ends, self._keys(own, about, skip=_SILENT), link)

    def _connect(
        self,
        ends: Sequence[tuple[str, Value, Mapping[str, Any]]],
        keys: Mapping[str, Any],
        link: Value,
    ) -> None:
        """Link two nodes, or more of them through a switch; each end may have keys of its own."""
        numbers = [self._find(name, place) for name, place, _ in ends]
        found = [number for number in numbers if number is not None]
        if len(found) < len(numbers):
            return
        if len(found) < 2:
            of = self._draft.called(found[0]) if found else f"line {link.place.line}"
            self._draft.lose("links with one end", of)
            return
        sides = [self._possible({**keys, **own}, name) for name, _, own in ends]
        if len(found) == 2:
            self._draft.link(found[0], found[1], sides[0], sides[1])
            return
        self._switches += 1
        key = f"lan-{self._switches}"
        while self._draft.number(key) is not None:
            key += "-switch"
        switch = self._draft.node(key, labels={"kind": "switch"})
        for number, side in zip(found, sides, strict=True):
            # Impairments are those of the node's interface; back from the switch only the rate is the link's.
            back: dict[str, Any] = {each: side[each] for each in ("rate", "mtu") if each in side}
            self._draft.link(number, switch, side, back)
        self._draft.remark("links of more than two nodes have a node of their own, the switch", key)

    def _possible(self, keys: dict[str, Any], of: str) -> dict[str, Any]:
        """Return the keys without those that do not go together."""
        if not (error := conflict(keys)):
            return keys
        self._draft.lose(f"impairments of links that do not go together ({error})", of)
        return {key: value for key, value in keys.items() if key in ("rate", "delay", "loss", "mtu")}

    def _find(self, name: str, place: Value) -> int | None:
        number = self._draft.number(name)
        if number is None:
            self._problems.add(
                f"the link names node `{name[:60]}`, which is not defined",
                "unknown-node",
                place.place,
                found=name[:60],
                expected="a node of the file",
            )
        return number

    def _split(self, text: str) -> list[str]:
        """Return the nodes of `r1-r2`, whose names may have dashes themselves."""
        parts = [part.strip() for part in text.split("-")]
        if len(parts) > _MOST_PARTS:
            return [text]
        best: dict[int, list[str]] = {0: []}
        for end in range(1, len(parts) + 1):
            for start in range(end):
                name = "-".join(parts[start:end])
                if start in best and end not in best and self._draft.number(name) is not None:
                    best[end] = [*best[start], name]
        return best.get(len(parts), parts)

    def _keys(self, value: Value, of: str, skip: Sequence[str] = ()) -> dict[str, Any]:
        """Return the keys of a link that a mapping of netlab's states, and note the others."""
        found: dict[str, Any] = {}
        if value.mapping is None:
            if value.data is not None and not isinstance(value.data, str):
                self._draft.lose("addresses of links", of)
            return found
        for key, below in value.mapping.items():
            if key == "bandwidth" and (rate := plain_rate(text_of(below), 1_000)) is not None:
                found["rate"] = str(rate)
                self._draft.remark("`bandwidth` of links is taken for their rate", of)
            elif key == "mtu" and isinstance(below.data, int) and 576 <= below.data <= 9_216:
                found["mtu"] = below.data
            elif key == "tc" or key.startswith("tc."):
                stated = below if key == "tc" else Value({key[3:]: below}, below.place)
                found |= self._impairments(stated, of)
            elif key not in skip:
                self._draft.lose(f"`{key}` of links", of)
        return found

    def _impairments(self, tc: Value, of: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in entries(tc, "tc", self._problems):
            stated = text_of(value)
            read: object = None
            if key in ("delay", "jitter"):
                read = plain_delay(stated, 1_000)
            elif key == "rate":
                read = plain_rate(stated, 1_000)
            elif key in _SHARES:
                read = plain_share(stated)
            if read is None:
                self._draft.lose(f"`tc.{key}` of links (`{stated[:30]}`)", of)
            elif key == "jitter" and isinstance(read, Duration) and read.us:
                # netem draws from all of ± jitter alike: the deviation is that range over the root of three.
                std = Duration(round(read.us / 3**0.5))
                found[key] = {"std": str(std), "distribution": "uniform", "reorder": True}
            elif read != Duration(0):
                found[key] = str(read)
        return found
