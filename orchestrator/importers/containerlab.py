"""Turn a containerlab topology into a topology file: its nodes, their labels and groups, and its links.

Containers, their kinds and their configuration have no counterpart: a node runs programs of its own.

Source:
    https://containerlab.dev/manual/topo-def-file/ and https://containerlab.dev/manual/links/
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.importers.draft import Draft, Imported, label_key, label_value
from orchestrator.importers.yamlfile import entries, items, raise_problems, read_document, text_of, wrong
from orchestrator.source import Problems, Value, named

__all__ = ["read"]

# Ends of links that are no nodes of the file.
_OUTSIDE = ("host", "mgmt-net", "macvlan")
_KNOWN = ("kind", "image", "group", "labels")


def read(path: str | os.PathLike[str], name: str) -> Imported:
    """Return what a containerlab file means; see `orchestrator.importers.from_containerlab`."""
    shown = named(path)
    problems = Problems("import")
    root = read_document(path, problems, needs="topology", what="a containerlab topology")
    draft = Draft(shown, "containerlab", name or text_of(root.get("name")) or Path(shown).name.split(".")[0])
    for key, _ in entries(root, "the file", problems):
        if key not in ("name", "topology"):
            draft.lose(f"`{key}` of the file")
    lab = root.get("topology")
    if lab is None:  # `read_document` has looked for it
        raise AssertionError("no topology")
    for key, _ in entries(lab, "topology", problems):
        if key not in ("nodes", "links", "kinds", "defaults", "groups"):
            draft.lose(f"`{key}` of the topology")
    nodes = dict(entries(lab.get("nodes"), "nodes", problems))
    for key, node in nodes.items():
        _add_node(key, node, lab, draft, problems)
    if not nodes and not problems:
        problems.add("the topology has no nodes", "empty", lab.place, expected="a mapping `nodes`")
    for link in items(lab.get("links"), "links", problems):
        _add_link(link, draft, problems)
    raise_problems(problems, shown)
    draft.remark("names of interfaces have no counterpart: a node has one interface for all its links")
    return draft.finish()


def _add_node(key: str, node: Value, lab: Value, draft: Draft, problems: Problems) -> None:
    own = dict(entries(node, f"node {key}", problems))
    group = text_of(_inherited("group", own, "", "", lab, problems))
    kind = text_of(_inherited("kind", own, "", group, lab, problems))
    image = text_of(_inherited("image", own, kind, group, lab, problems))
    labels = {"group": label_value(group), "kind": label_value(kind)}
    stated = own.get("labels")
    if stated is not None:
        labels |= {
            label_key(each): label_value(text_of(value))
            for each, value in entries(stated, "labels", problems)
        }
    draft.node(key, labels={each: value for each, value in labels.items() if each and value})
    if image:
        draft.lose(f"image `{image}`" + (f" (kind `{kind}`)" if kind else ""), key)
    elif kind:
        draft.lose(f"kind `{kind}`", key)
    for each in own:
        if each not in _KNOWN:
            draft.lose(f"`{each}` of nodes", key)
    for level, of in (("kinds", kind), ("groups", group), ("defaults", "")):
        for each in _level(lab, level, of, problems):
            if each not in _KNOWN:
                draft.lose(f"`{each}` of {level}", of) if of else draft.lose(f"`{each}` of {level}")


def _inherited(
    key: str, own: Mapping[str, Value], kind: str, group: str, lab: Value, problems: Problems
) -> Value | None:
    """Return a key of a node, of its group, of its kind, or the default of all."""
    for level in (
        own,
        _level(lab, "groups", group, problems),
        _level(lab, "kinds", kind, problems),
        _level(lab, "defaults", "", problems),
    ):
        if key in level:
            return level[key]
    return None


def _level(lab: Value, level: str, of: str, problems: Problems) -> Mapping[str, Value]:
    """Return what the file says for all nodes of a kind or group, or for all."""
    found = lab.get(level)
    if level != "defaults":
        found = found.get(of) if found is not None and of else None
    return dict(entries(found, f"{level} {of}".strip(), problems))


def _add_link(link: Value, draft: Draft, problems: Problems) -> None:
    if link.mapping is None:
        wrong(link, "a link", "a mapping with `endpoints`", problems)
        return
    type_ = text_of(link.get("type")) or "veth"
    if type_ != "veth":
        draft.lose(f"links of the type `{type_}`", f"line {link.place.line}")
        return
    ends = list(items(link.get("endpoints"), "endpoints", problems))
    if len(ends) != 2:
        problems.add(
            f"the link has {len(ends)} endpoints, but 2 are expected",
            "endpoints",
            link.place_of("endpoints"),
            expected='two endpoints such as `"node1:eth1"`',
        )
        return
    names = [_end(end, problems) for end in ends]
    outside = [name for name in names if name in _OUTSIDE and draft.number(name) is None]
    if outside:
        draft.lose(f"links to `{outside[0]}`", ", ".join(name for name in names if name not in outside))
        return
    numbers = [_find(name, end, draft, problems) for name, end in zip(names, ends, strict=True)]
    a, b = numbers
    if a is None or b is None:
        return
    keys: dict[str, Any] = {}
    for key, value in link.mapping.items():
        mtu = value.data if key == "mtu" and isinstance(value.data, int) else None
        if mtu is not None and 576 <= mtu <= 9_216:
            keys["mtu"] = mtu
        elif key not in ("type", "endpoints"):
            draft.lose(f"`{key}` of links", f"{draft.called(a)}–{draft.called(b)}")
    draft.link(a, b, keys)


def _end(end: Value, problems: Problems) -> str:
    """Return the node of `node:interface`, or of the long form."""
    if end.mapping is not None:
        for key in end.mapping:
            if key not in ("node", "interface", "mac", "ipv4", "ipv6", "vars"):
                problems.add(f"unknown key `{key[:40]}` in an endpoint", "unknown-key", end.key_place(key))
        return text_of(end.get("node"))
    return text_of(end).partition(":")[0]


def _find(name: str, end: Value, draft: Draft, problems: Problems) -> int | None:
    number = draft.number(name)
    if number is None and end.sequence is not None:
        wrong(end, "an endpoint", 'text such as `"node1:eth1"`', problems)
    elif number is None:
        problems.add(
            f"the link names node `{name[:60]}`, which is not defined",
            "unknown-node",
            end.place,
            found=name[:60],
            expected="a node of the file",
        )
    return number
