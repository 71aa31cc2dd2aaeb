"""Build the lab's state at start-up from the controller's file and the rows in Postgres.

The file takes precedence for what it declares, Postgres for what happened since: addresses of nodes, groups,
live changes of links, and rows that were added by SQL.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from orchestrator.controller.explicit_routes import COMPUTED, OF_FILE, Identity, identity
from orchestrator.controller.groups import Group, Groups, TreeSpec
from orchestrator.controller.lab import Lab
from orchestrator.controller.registry import (
    Link,
    Node,
    NodeStates,
    Registry,
    Wanted,
    link_row_key,
    pair,
)
from orchestrator.settings.controller import ControllerSettings, LinkEntry, NodeEntry, RouteEntry
from orchestrator.store import GroupRow, LinkRow, NodeRow, RouteRow, Snapshot, Store

__all__ = [
    "build",
    "declared_links",
    "declared_node",
    "declared_routes",
    "give_addresses",
    "group_from",
    "group_row_key",
    "groups_from",
    "link_from",
    "numbers_of",
    "route_row",
    "save",
    "unnumbered",
]

_ROW = "row of group "
"""The prefix of the keys of problems with rows of groups."""


def group_row_key(group_id: int) -> str:
    """Return the key of a problem with the row of a group, as the lab keeps it."""
    return f"{_ROW}{group_id}"


MAX_TREE = 2**16 - 1
"""The highest number that a tree may have; together with its group's it is a route's."""


def build(settings: ControllerSettings, found: Snapshot, new: Iterable[int]) -> Lab:
    """Return the lab.

    Args:
        settings: The controller's file.
        found: What Postgres has.
        new: Numbers for the routes of the file that are `unnumbered`.
    """
    of_file = numbers_of(settings, found)
    added = dict(zip(unnumbered(settings, found), new, strict=True))
    remembered = {row.node_id: row for row in found.nodes}
    nodes = []
    for entry in settings.nodes:
        node = declared_node(entry)
        _recall(node, remembered.get(node.id))
        nodes.append(node)
    registry = Registry(nodes, link_secret=settings.link_secret)
    for link in _links(settings, found):
        if link.a in registry and link.b in registry:
            registry.put_link(link)
    groups = Groups(settings.multicast_pool_base, settings.multicast_pool_mask)
    problems: dict[str, str] = {}
    groups_from(groups, found.groups, registry, problems)
    lab = Lab(
        registry,
        groups,
        _routes(settings, found, of_file, added),
        shortest_path=settings.routing == "shortest_path",
        metric=settings.metric,
        uplinks=[entry.node_id for entry in settings.nodes if entry.uplink],
        was_ready=found.lab.was_ready,
        partition=found.lab.partition,
    )
    lab.explicit.of_file = of_file | added
    lab.change_pins({pin.pin_id: pin for pin in found.pins})
    lab.change_pins(dict.fromkeys(lab.explicit.orphaned_pins()))  # the file may have changed
    for row in found.links:
        if row.refusal and (row.a, row.b) not in registry.links:
            problems[link_row_key(row.a, row.b)] = _refused(row, "is left out")
    lab.problems.update(problems)
    return lab


def save(settings: ControllerSettings, lab: Lab, found: Snapshot, store: Store) -> None:
    """Write what the file changed."""
    from orchestrator.controller.link_changes import link_row
    from orchestrator.controller.node_handler import node_row

    nodes = {node.id: node_row(node) for node in lab.registry}
    before = {row.node_id: row for row in found.nodes}
    store.lab.drop_nodes([node_id for node_id in before if node_id not in nodes])
    store.lab.save_nodes([row for node_id, row in nodes.items() if before.get(node_id) != row])
    links = {ends: link_row(link) for ends, link in lab.registry.links.items()}
    old_links = {(row.a, row.b): row for row in found.links}
    store.lab.drop_links([ends for ends, row in old_links.items() if ends not in links and not row.refusal])
    store.lab.save_links([row for ends, row in links.items() if old_links.get(ends) != row])
    store.lab.drop_pins([pin.pin_id for pin in found.pins if pin.pin_id not in lab.explicit.pins])
    routes, of_file = lab.explicit.rows, lab.explicit.of_file
    old_routes = {row.route_id: row for row in found.routes}
    numbered = {row.route_id for row in found.file_routes}
    store.lab.drop_file_routes(numbered - set(of_file.values()))
    store.lab.drop_routes([route_id for route_id in old_routes if route_id not in routes])
    store.lab.save_routes([row for route_id, row in routes.items() if old_routes.get(route_id) != row])
    store.lab.save_file_routes(
        RouteRow(number, src, dst, tuple(sorted(edges)))
        for (src, dst, edges), number in of_file.items()
        if number not in numbered
    )


def _refused(row: LinkRow, what: str) -> str:
    return f"the row of link {row.a}–{row.b} is refused, and the link {what}: {row.refusal}"


def groups_from(
    groups: Groups, rows: Iterable[GroupRow], registry: Registry, problems: dict[str, str]
) -> set[int]:
    """Make groups as Postgres has them; return the ids of those that differ from before.

    Args:
        groups: The groups.
        rows: What Postgres has.
        registry: Which nodes there are.
        problems: Rows that make no sense are named here, and left out.
    """
    for about in [about for about in problems if about.startswith(_ROW)]:
        del problems[about]
    wanted = {}
    for row in rows:
        reason = groups.refusal(row.group_id, row.label, row.group_ip)
        if not reason and row.src_node_id not in registry:
            reason = f"there is no node {row.src_node_id}"
        if reason:
            problems[group_row_key(row.group_id)] = f"the row of group {row.group_id} is left out: {reason}"
        else:
            wanted[row.group_id] = row
    changed = {group.id for group in groups if group.id not in wanted}
    for group_id in changed:
        groups.drop(group_id)
    for row in wanted.values():
        new = group_from(row, groups, registry)
        old = groups.group(row.group_id) if row.group_id in groups else None
        if old is None or (old.entry, old.members, old.trees) != (new.entry, new.members, new.trees):
            groups.add(new)
            changed.add(new.id)
    return changed


def group_from(row: GroupRow, groups: Groups, registry: Registry) -> Group:
    """Return the group of a row, with those of its members and trees whose nodes there are."""
    ip = row.group_ip or groups.address(row.group_id)
    trees = tuple(
        TreeSpec(tree.tree_id, tree.edges, tree.weight if _is_weight(tree.weight) else None)
        for tree in row.trees
        if tree.tree_id <= MAX_TREE and all(end in registry for edge in tree.edges for end in edge)
    )
    members = {member for member in row.members if member in registry}
    return Group(row.group_id, ip, row.src_node_id, row.label, members, trees)


def _is_weight(weight: float | None) -> bool:
    return weight is not None and math.isfinite(weight) and weight > 0


def give_addresses(groups: Groups, rows: Iterable[GroupRow], store: Store) -> None:
    """Write the addresses of groups that were added by hand without one."""
    for row in rows:
        if row.group_ip is None and row.group_id in groups:
            store.lab.give_address(row.group_id, groups.group(row.group_id).ip)


def _recall(node: Node, row: NodeRow | None) -> None:
    """Give a node what is remembered of it; one that was there is expected back."""
    if row is None or (row.process == 0 and not row.private_network_addr):
        node.state = NodeStates.VACANT if node.external else NodeStates.STARTING
        return
    node.process = row.process
    node.private_name = row.private_network_name
    node.private_addr = row.private_network_addr
    node.public_addr = row.public_network_addr or node.declared_public_addr
    node.mtu = row.mtu
    if row.wanted in set(Wanted):
        node.wanted = Wanted(row.wanted)
    if row.state in (NodeStates.READY, NodeStates.STARTING):
        # A paused node cannot come back before it is resumed.
        node.state, node.expected_back = NodeStates.STARTING, node.wanted is not Wanted.PAUSED
    else:
        node.state = NodeStates(row.state) if row.state in set(NodeStates) else NodeStates.UNREACHABLE


def _links(settings: ControllerSettings, found: Snapshot) -> list[Link]:
    remembered = {(row.a, row.b): row for row in found.links}
    declared = {pair(entry.a, entry.b): _declared(entry) for entry in settings.links}
    for ends in found.deleted_links:
        declared.pop(ends, None)
    for ends, link in declared.items():
        row = remembered.get(ends)
        if row is not None and row.refusal:
            continue  # the row is written again from the file
        if row is not None and (row.forward, row.backward) == (link.forward, link.backward):
            link.forward_now, link.backward_now = row.forward_now, row.backward_now
        if row is not None:
            link.forward_down, link.backward_down = row.forward_down, row.backward_down
            link.partitioned = row.partitioned
    added = [
        link_from(row)
        for ends, row in remembered.items()
        if row.origin == "sql" and ends not in declared and not row.refusal
    ]
    return [*declared.values(), *added]


def _declared(entry: LinkEntry) -> Link:
    ends = (entry.a, entry.b, entry.forward, entry.backward)
    down = (entry.forward_down, entry.backward_down)
    if entry.a > entry.b:
        ends, down = (entry.b, entry.a, entry.backward, entry.forward), (down[1], down[0])
    link = Link(*ends, forward_down=down[0], backward_down=down[1])
    link.forward_down_declared, link.backward_down_declared = down
    return link


def link_from(row: LinkRow) -> Link:
    """Return the link of a row."""
    return Link(
        row.a,
        row.b,
        row.forward,
        row.backward,
        row.forward_now,
        row.backward_now,
        row.origin,
        row.forward_down,
        row.backward_down,
        row.partitioned,
    )


def route_row(number: int, entry: RouteEntry) -> RouteRow:
    """Return the row of a route of the controller's file."""
    origin = COMPUTED if entry.computed else "file"
    return RouteRow(number, entry.src, entry.dst, tuple(entry.edges), origin, entry.weight)


def declared_routes(settings: ControllerSettings) -> dict[Identity, RouteEntry]:
    """Return the explicit routes of the controller's file by what tells them apart, in order."""
    return {identity(entry.src, entry.dst, entry.edges): entry for entry in settings.routes}


def numbers_of(settings: ControllerSettings, found: Snapshot) -> dict[Identity, int]:
    """Return the numbers that routes of the controller's file have already."""
    rows = [*(row for row in found.routes if row.origin in OF_FILE), *found.file_routes]
    known = {identity(row.src, row.dst, row.edges): row.route_id for row in rows}
    return {route: known[route] for route in declared_routes(settings) if route in known}


def unnumbered(settings: ControllerSettings, found: Snapshot) -> list[Identity]:
    """Return the routes of the controller's file that Postgres does not know."""
    known = numbers_of(settings, found)
    return [route for route in declared_routes(settings) if route not in known]


def _routes(
    settings: ControllerSettings,
    found: Snapshot,
    of_file: Mapping[Identity, int],
    added: Mapping[Identity, int],
) -> list[RouteRow]:
    """Return the routes of the file, except for deleted ones, and those that were changed or added since."""
    rows = {row.route_id: row for row in found.routes}
    declared = [
        route_row(number, entry)
        for route, entry in declared_routes(settings).items()
        if (number := added.get(route) or of_file[route]) in rows or route in added
    ]
    changed = {row.route_id: row for row in found.routes if row.origin not in OF_FILE}
    return list({**{row.route_id: row for row in declared}, **changed}.values())


def declared_links(settings: ControllerSettings) -> dict[tuple[int, int], Link]:
    """Return the links of the controller's file, as it declares them."""
    return {pair(entry.a, entry.b): _declared(entry) for entry in settings.links}


def declared_node(entry: NodeEntry) -> Node:
    """Return a node of the controller's file that has never registered."""
    node = Node(
        entry.node_id,
        entry.name,
        dict(entry.labels),
        entry.external,
        entry.operating_mode,
        entry.public_network_addr,
        mtu=entry.mtu,
        prefixes=entry.prefixes,
        uplink=entry.uplink,
    )
    _recall(node, None)
    return node
