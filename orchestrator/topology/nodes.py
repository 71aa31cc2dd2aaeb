"""Build the nodes of a topology: their number, names and settings."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.errors import Place
from orchestrator.source import Problems, Value
from orchestrator.topology.generators import GENERATORS
from orchestrator.topology.model import Node
from orchestrator.topology.prefixes import build_prefixes
from orchestrator.topology.selector import Named, SelectorInvalid, select, unknown_node_hint
from orchestrator.topology.shape import Shape
from orchestrator.topology.uplinks import check_uplink_network, check_uplinks

__all__ = [
    "RESERVED_NAMES",
    "STANDARD_NAME",
    "Group",
    "build_nodes",
    "find_groups",
    "find_node",
    "make_shape",
    "read_selector",
]

Read = Mapping[str, Any]

# A full mesh of 1,000 nodes has half a million links; nothing beyond that can be brought up anywhere.
_MOST_LINKS = 1_000_000
# Words that selectors, container networks and name services have taken.
RESERVED_NAMES = frozenset({"all", "rest", "controller", "postgres", "localhost", "host", "none"})
STANDARD_NAME = re.compile(r"node-\d+", re.IGNORECASE)


@dataclass(slots=True)
class Group:
    """A group with its members found; later groups win over earlier ones."""

    members: frozenset[int]
    node: Read
    link: Read


@dataclass(slots=True)
class _Draft:
    """What selectors may look at while groups are still being worked out."""

    name: str
    labels: dict[str, str] = field(default_factory=dict)


def make_shape(root: Read, problems: Problems) -> Shape | None:
    """Return the numbers of nodes and the generated links, or None after noting why there are none."""
    made = _whole_shape(root, problems)
    without = frozenset(root.get("without", ()))
    if made is None or not without:
        return made
    value: Value = root["@"]
    outside = sorted(number for number in without if number > made.n)
    if outside or len(without) == made.n:
        problems.add(
            f"node {outside[0]} is left out, but the topology has {made.n} nodes"
            if outside
            else "every node is left out",
            "without",
            value.place_of("without"),
            found=", ".join(map(str, outside or sorted(without)[:8])),
            expected=f"some of 1 to {made.n}",
        )
        return None
    return made.leave_out(without)


def _whole_shape(root: Read, problems: Problems) -> Shape | None:
    value: Value = root["@"]
    generator = root.get("topology")
    if generator is None and value.get("topology") is not None:
        return None  # there is one, and what is wrong with it has been noted
    if generator is None:
        n = _stated_size(root, problems)
        return None if n is None or not _fits(root, n, problems) else Shape(n, ())
    kind = GENERATORS[generator["type"]]
    made, links = kind.count(generator["params"])
    n = root.get("n_nodes", made)
    if n < made:
        problems.add(
            f"n_nodes is `{n}`, but the {kind.name} alone has {made}",
            "n-nodes",
            value.place_of("n_nodes"),
            found=str(n),
            expected=f"at least {made}",
            hint="leave `n_nodes` out, or give it the generator's nodes and those you add",
        )
        return None
    if not _fits(root, n, problems):
        return None
    if links > _MOST_LINKS:
        problems.add(
            f"the {kind.name} would have {links} links, but at most {_MOST_LINKS} fit",
            "too-large",
            generator["@"].place,
            found=str(links),
            expected=f"at most {_MOST_LINKS}",
        )
        return None
    shape = kind.make(generator["params"], root.get("seed", 1))
    return Shape(n, shape.edges, shape.tiers)


def find_groups(root: Read, shape: Shape, problems: Problems) -> list[Group]:
    """Return the groups in the order of the file, members found by name, label and number."""
    drafts = _drafts(root, shape)
    found: dict[str, Group] = {}
    groups: Mapping[str, Read] = root.get("groups", {})
    rest = [name for name, group in groups.items() if _words(group.get("nodes")) & {"rest"}]
    for name in sorted(groups, key=lambda name: name in rest):
        group = groups[name]
        taken: set[int] = set()
        if name in rest:
            taken = {node for other, known in found.items() if other not in rest for node in known.members}
        selector: Value | None = group.get("nodes")
        members = read_selector("nodes", selector, drafts, problems, taken=taken) if selector else ()
        found[name] = Group(frozenset(members), group.get("node", {}), group.get("link", {}))
    return [found[name] for name in groups]


def build_nodes(root: Read, shape: Shape, groups: list[Group], problems: Problems) -> dict[int, Node]:
    """Return all nodes with defaults, then groups, then their own settings laid over each other."""
    stated: Mapping[str, Read] = root.get("nodes", {})
    _check_numbers(root, shape, problems)
    names = _check_names(stated, problems)
    shared = root.get("defaults", {}).get("node", {})
    prefixes = build_prefixes(stated, root.get("subnet", "10.0.0.0/16"), shape.n, problems)
    nodes: dict[int, Node] = {}
    for number in shape.numbers:
        layers = [shared, *(group.node for group in groups if number in group.members)]
        layers.append(stated.get(str(number), {}))
        tier = shape.tiers.get(number)
        base: dict[str, Any] = {"labels": {"tier": tier}} if tier else {}
        if number in prefixes:
            base["prefixes"] = prefixes[number]
        if uplink := stated.get(str(number), {}).get("uplink"):
            base["uplink"] = uplink
        nodes[number] = node = _node(number, names.get(number, f"node-{number}"), _laid_over(base, layers))
        _check_socks5(node, root, problems)
    check_uplinks(stated, nodes, problems)
    check_uplink_network(root, nodes, problems)
    return nodes


def find_node(value: Value, nodes: Mapping[int, Node], by_name: Mapping[str, int]) -> int | None:
    """Return the node that a number or name means, or None."""
    if isinstance(value.data, int):
        return value.data if value.data in nodes else None
    text = str(value.data)
    number = by_name.get(text)
    if number is None and text.isdecimal() and int(text) in nodes:
        return int(text)
    return number


def _stated_size(root: Read, problems: Problems) -> int | None:
    """Return the number of nodes of a file without generator."""
    value: Value = root["@"]
    if "n_nodes" in root:
        return int(root["n_nodes"])
    if value.get("n_nodes") is not None:
        return None
    without = set(root.get("without", ()))
    numbers = sorted(int(number) for number in root.get("nodes", {}))
    links = root.get("links", [])
    if not numbers:
        ends = (end.data for link in links for end in link.get("endpoints", ()))
        numbers = sorted({end for end in ends if isinstance(end, int) and end > 0})
    if not numbers:
        problems.add(
            "the topology has no nodes",
            "no-nodes",
            value.place,
            expected="one of `topology`, `n_nodes`, `nodes`, `links`",
            hint="for example `topology: {type: ring, n_nodes: 4}`",
        )
        return None
    numbers = sorted({*numbers, *without})
    missing = next((i for i, number in enumerate(numbers, 1) if i != number), None)
    if missing is not None:
        problems.add(
            f"nodes run from 1 without a gap, but node {missing} is named nowhere",
            "node-gap",
            value.place_of("nodes") if root.get("nodes") else value.place_of("links"),
            found=str(numbers[missing - 1]),
            expected=str(missing),
            hint=f"write `n_nodes: {numbers[-1]}` if nodes without an entry are meant, or"
            f" `without: [{missing}]` if there is no such node",
        )
        return None
    return len(numbers)


def _fits(root: Read, n: int, problems: Problems) -> bool:
    network = ipaddress.IPv4Network(root.get("subnet", "10.0.0.0/16"))
    room = max(0, network.num_addresses - 2)
    if n <= room:
        return True
    value: Value = root["@"]
    key = "subnet" if value.get("subnet") else "n_nodes" if value.get("n_nodes") else "topology"
    # The smallest network around this one that holds n nodes besides its first and last address.
    base, prefix = str(network.network_address), 32 - (n + 1).bit_length()
    problems.add(
        f"the subnet {network} has room for {room} nodes, but the topology has {n}",
        "subnet-too-small",
        value.place_of(key),
        found=str(n),
        expected=f"at most {room} nodes",
        hint=f"write `subnet: {ipaddress.IPv4Network((base, prefix), strict=False)}`"
        if prefix >= 8
        else None,
    )
    return False


def _drafts(root: Read, shape: Shape) -> dict[int, _Draft]:
    shared = root.get("defaults", {}).get("node", {}).get("labels", {})
    drafts = {}
    for number in shape.numbers:
        stated: Read = root.get("nodes", {}).get(str(number), {})
        tier = {"tier": shape.tiers[number]} if number in shape.tiers else {}
        labels = {**tier, **shared, **stated.get("labels", {})}
        drafts[number] = _Draft(stated.get("name", f"node-{number}"), labels)
    return drafts


def _words(selector: Value | None) -> set[str]:
    items = [] if selector is None else selector.sequence or [selector]
    return {word.strip() for item in items for word in str(item.data).split(",")}


def read_selector(
    what: str,
    selector: Value,
    nodes: Mapping[int, Named],
    problems: Problems,
    *,
    taken: Collection[int] | None = None,
    of_all: Collection[int] | None = None,
) -> tuple[int, ...]:
    """Return the ids of the nodes that a selector of a file means, text or a list, in order and each once.

    Args:
        what: What has the selector, for messages.
        selector: The value.
        nodes: All nodes by id.
        problems: Takes what is wrong.
        taken: What others have selected already; see `select`.
        of_all: The nodes that `all` means; all of them unless given.
    """
    members: set[int] = set()
    for item in selector.sequence if selector.sequence is not None else [selector]:
        for word in (item.text if item.data is not None else "").split(","):
            try:
                members.update(select(word, nodes, taken=taken, of_all=of_all))
            except SelectorInvalid as error:
                problems.add(
                    f"{what} names `{error.found}`, which {error.reason}",
                    "selector",
                    item.place,
                    found=error.found,
                    expected=error.expected,
                    hint=error.hint,
                )
    return tuple(sorted(members))


def _check_numbers(root: Read, shape: Shape, problems: Problems) -> None:
    value: Value = root["@"].get("nodes") or root["@"]
    n = shape.n
    for number in root.get("nodes", {}):
        if int(number) in shape.without:
            problems.add(
                f"node {number} is left out by `without`, but has settings",
                "left-out",
                value.key_place(number),
                found=number,
                hint="remove one of the two",
            )
        if int(number) > n:
            problems.add(
                f"node {number} is not there: the topology has {n} nodes",
                "unknown-node",
                value.key_place(number),
                found=number,
                expected=f"1 to {n}",
                hint=f"to add nodes to a generated shape write `n_nodes: {number}`",
            )


def _check_names(stated: Mapping[str, Read], problems: Problems) -> dict[int, str]:
    """Return the names that the file gives, once it is sure that they can be told apart."""
    names: dict[int, str] = {}
    first: dict[str, tuple[int, Place]] = {}
    for number, node in sorted(stated.items(), key=lambda item: int(item[0])):
        name = node.get("name")
        if name is None:
            continue
        value: Value = node["@"]
        place, folded = value.place_of("name"), name.casefold()
        standard = STANDARD_NAME.fullmatch(name) and folded != f"node-{number}"
        if folded in first:
            other, there = first[folded]
            problems.add(
                f"node {number} is called `{name}`, but so is node {other} in line {there.line}",
                "duplicate-name",
                place,
                found=name,
                hint="every node needs a name of its own; capitals do not count",
            )
        elif folded in RESERVED_NAMES or standard:
            what = f"every node answers to `node-<id>` anyway, and this is not node {name[5:]}"
            problems.add(
                f"node {number} cannot be called `{name}`",
                "reserved-name",
                place,
                found=name,
                hint=what if standard else "the word has a meaning of its own here",
            )
        else:
            first[folded] = (int(number), place)
            names[int(number)] = name
    return names


def _check_socks5(node: Node, root: Read, problems: Problems) -> None:
    """Note a user name without a password, and the reverse."""
    if bool(node.socks5_username) == bool(node.socks5_password):
        return
    there, missing = ("username", "password") if node.socks5_username else ("password", "username")
    value: Value = root["@"]
    problems.add(
        f"`socks5` of {node.name} has a {there} and no {missing}",
        "socks5",
        value.place_of("nodes" if value.get("nodes") else "defaults"),
        expected="both, or neither",
        hint=f"add `{missing}`",
    )


def _laid_over(base: dict[str, Any], layers: list[Read]) -> dict[str, Any]:
    """Return the layers over each other; labels, sysctls, socks5 and lossless settings key by key."""
    result = dict(base)
    for layer in layers:
        for key, value in layer.items():
            if key in ("labels", "lossless", "socks5", "sysctls"):
                result[key] = {**result.get(key, {}), **value}
            elif key not in ("@", "name", "prefixes", "uplink"):
                result[key] = value
    return result


SOCKS5_FIELDS = {"port": "max_server_port", "username": "socks5_username", "password": "socks5_password"}
"""The attributes of a node by the keys of its `socks5`."""


def _node(number: int, name: str, settings: dict[str, Any]) -> Node:
    lossless = settings.pop("lossless", {})
    # Upwards, so that a wait never becomes shorter than was written.
    waits = {
        key: -(-lossless[key].us // 1000)
        for key in ("ready_grace", "report_timeout", "start_timeout")
        if key in lossless
    }
    if "ready_grace" in waits:
        settings["ready_grace_ms"] = waits["ready_grace"]
    if "report_timeout" in waits:
        settings["peer_report_timeout_ms"] = waits["report_timeout"]
    if "start_timeout" in waits:
        settings["start_timeout_ms"] = waits["start_timeout"]
    if "window" in lossless:
        settings["window_bytes"] = lossless["window"].bytes
    socks5 = settings.pop("socks5", {})
    settings |= {name: socks5[key] for key, name in SOCKS5_FIELDS.items() if key in socks5}
    return Node(id=number, name=name, **settings)


def note_unknown(what: str, value: Value, nodes: Mapping[int, Node], problems: Problems) -> None:
    """Note that something names a node that is not there."""
    text = str(value.data)
    problems.add(
        f"{what} names node `{text}`, which is not defined",
        "unknown-node",
        value.place,
        found=text,
        expected="a node's number or name",
        hint=unknown_node_hint(text, nodes),
    )
