"""Write and read nodes, links, routes and groups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orchestrator.impairment import trace_contents, with_trace
from orchestrator.store.link_specs import read_spec
from orchestrator.store.pins import DROP_PIN, SAVE_PIN, pin_values
from orchestrator.store.rows import Edges, GroupRow, LabRow, LinkRow, NodeRow, PinRow, RouteRow, TreeRow
from orchestrator.store.values import jsonb, text
from orchestrator.store.writer import OnRefused, Statement, Writer

if TYPE_CHECKING:
    from psycopg import AsyncConnection

__all__ = [
    "LabTables",
    "begin",
    "link_values",
    "new_pin",
    "new_routes",
    "read_deleted_links",
    "read_file_routes",
    "read_groups",
    "read_links",
    "read_nodes",
    "read_routes",
    "read_traces",
]

# What a node shall be is written by `_NODE_WANTED` alone: it may have been changed by SQL a moment ago.
_SAVE_NODE = Statement("""
    INSERT INTO nodes (node_id, name, labels, external, state, private_network_name, private_network_addr,
                       public_network_addr, process, mtu, wanted, prefixes, uplink, registered_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s::cidr[], %s,
            CASE WHEN %s = 0 THEN NULL ELSE now() END)
    ON CONFLICT (node_id) DO UPDATE SET
        name = excluded.name, labels = excluded.labels, external = excluded.external, state = excluded.state,
        private_network_name = excluded.private_network_name,
        private_network_addr = excluded.private_network_addr,
        public_network_addr = excluded.public_network_addr, process = excluded.process, mtu = excluded.mtu,
        prefixes = excluded.prefixes, uplink = excluded.uplink,
        registered_at = coalesce(excluded.registered_at, nodes.registered_at), updated_at = now()""")
_NODE_STATE = Statement("UPDATE nodes SET state = %s, updated_at = now() WHERE node_id = %s")
_NODE_WANTED = Statement("UPDATE nodes SET wanted = %s, updated_at = now() WHERE node_id = %s")
_DROP_NODE = Statement("DELETE FROM nodes WHERE node_id = %s")
_SAVE_LINK = Statement("""
    INSERT INTO links (a, b, forward, backward, forward_now, backward_now, origin, forward_down,
                       backward_down, partitioned)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (a, b) DO UPDATE SET
        forward = excluded.forward, backward = excluded.backward, forward_now = excluded.forward_now,
        backward_now = excluded.backward_now, origin = excluded.origin,
        forward_down = excluded.forward_down, backward_down = excluded.backward_down,
        partitioned = excluded.partitioned""")
_SAVE_TRACE = Statement(
    "INSERT INTO traces (digest, content) VALUES (%s, %s) ON CONFLICT (digest) DO NOTHING"
)
_DROP_LINK = Statement("DELETE FROM links WHERE a = %s AND b = %s")
_SAVE_ROUTE = Statement("""
    INSERT INTO routes (route_id, src_node_id, dst_node_id, edges, origin, weight)
    VALUES (%s, %s, %s, %s, %s, %s)
    ON CONFLICT (route_id) DO UPDATE SET
        src_node_id = excluded.src_node_id, dst_node_id = excluded.dst_node_id, edges = excluded.edges,
        origin = excluded.origin, weight = excluded.weight""")
_DROP_ROUTE = Statement("DELETE FROM routes WHERE route_id = %s")
_SAVE_FILE_ROUTE = Statement("""
    INSERT INTO file_routes (route_id, src_node_id, dst_node_id, edges) VALUES (%s, %s, %s, %s)
    ON CONFLICT (route_id) DO UPDATE SET
        src_node_id = excluded.src_node_id, dst_node_id = excluded.dst_node_id, edges = excluded.edges""")
_DROP_FILE_ROUTE = Statement("DELETE FROM file_routes WHERE route_id = %s")
_SAVE_GROUP = Statement("""
    INSERT INTO groups (group_id, label, src_node_id, group_ip) VALUES (%s, %s, %s, %s)
    ON CONFLICT (group_id) DO UPDATE SET
        label = excluded.label, src_node_id = excluded.src_node_id, group_ip = excluded.group_ip""")
_DROP_GROUP = Statement("DELETE FROM groups WHERE group_id = %s")
# Not the whole group: it may have been deleted by hand meanwhile.
_GIVE_ADDRESS = Statement("UPDATE groups SET group_ip = %s WHERE group_id = %s AND group_ip IS NULL")
_ADD_MEMBER = Statement(
    "INSERT INTO group_members (group_id, node_id) VALUES (%s, %s) ON CONFLICT (group_id, node_id) DO NOTHING"
)
_DROP_MEMBER = Statement("DELETE FROM group_members WHERE group_id = %s AND node_id = %s")
_DROP_TREES = Statement("DELETE FROM group_trees WHERE group_id = %s")
_ADD_TREE = Statement("""
    INSERT INTO group_trees (group_id, tree_id, edges, weight) VALUES (%s, %s, %s, %s)
    ON CONFLICT (group_id, tree_id) DO UPDATE SET
        edges = excluded.edges, weight = excluded.weight, updated_at = now()""")
_DECLARE_AGAIN = Statement("DELETE FROM deleted_from_file WHERE table_name = %s AND key = %s")
_LAB_READY = Statement("UPDATE lab SET ready_at = coalesce(ready_at, now()) WHERE name = %s")
_LAB_PARTITION = Statement("UPDATE lab SET partition_groups = %s WHERE name = %s")


class LabTables:
    """Writes what the controller decided about the lab; nothing here waits.

    Attributes:
        changes: Counts what was written to tables that may be changed by SQL as well.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self.changes = 0
        self._traces: set[str] = set()

    def save_nodes(self, nodes: Iterable[NodeRow]) -> None:
        """Write nodes whole."""
        self._writer.put_many(_SAVE_NODE, [_node_values(node) for node in nodes])

    def node_states(self, states: Iterable[tuple[int, str]]) -> None:
        """Write what nodes are doing, by id."""
        self._writer.put_many(_NODE_STATE, [(state, node_id) for node_id, state in states])

    def nodes_wanted(self, wanted: Iterable[tuple[int, str]]) -> None:
        """Write what nodes shall be, by id."""
        self.changes += 1
        self._writer.put_many(_NODE_WANTED, [(value, node_id) for node_id, value in wanted])

    def drop_nodes(self, node_ids: Iterable[int]) -> None:
        """Forget nodes."""
        self._writer.put_many(_DROP_NODE, [(node_id,) for node_id in node_ids])

    def save_links(self, links: Iterable[LinkRow], on_refused: OnRefused | None = None) -> None:
        """Write links whole, and before them the contents of their traces."""
        self.changes += 1
        for link in links:
            specs = [link.forward, link.backward, link.forward_now, link.backward_now]
            self.save_traces(trace_contents(spec for spec in specs if spec), on_refused)
            self._writer.put(_SAVE_LINK, *link_values(link), on_refused=on_refused)

    def save_traces(self, contents: Mapping[str, bytes], on_refused: OnRefused | None = None) -> None:
        """Write the contents of traces, by digest, that have not been written."""
        for digest, content in contents.items():
            if digest not in self._traces:
                self._traces.add(digest)
                self._writer.put(_SAVE_TRACE, digest, content, on_refused=on_refused)

    def drop_links(self, ends: Iterable[tuple[int, int]]) -> None:
        """Forget links."""
        self.changes += 1
        self._writer.put_many(_DROP_LINK, list(ends))

    def declare_links_again(self, ends: Iterable[tuple[int, int]]) -> None:
        """Forget that links of the controller's file were deleted by SQL: another file declares them anew."""
        self._writer.put_many(_DECLARE_AGAIN, [("links", jsonb(list(key))) for key in ends])

    def save_routes(self, routes: Iterable[RouteRow]) -> None:
        """Write explicit routes."""
        self.changes += 1
        rows = [
            (route.route_id, route.src, route.dst, jsonb(route.edges), route.origin, route.weight)
            for route in routes
        ]
        self._writer.put_many(_SAVE_ROUTE, rows)

    def drop_routes(self, route_ids: Iterable[int]) -> None:
        """Forget explicit routes."""
        self.changes += 1
        self._writer.put_many(_DROP_ROUTE, [(route_id,) for route_id in route_ids])

    def save_pins(self, pins: Iterable[PinRow]) -> None:
        """Write pins of flows to routes."""
        self.changes += 1
        self._writer.put_many(SAVE_PIN, [pin_values(pin) for pin in pins])

    def drop_pins(self, pin_ids: Iterable[int]) -> None:
        """Forget pins."""
        self.changes += 1
        self._writer.put_many(DROP_PIN, [(pin_id,) for pin_id in pin_ids])

    def save_file_routes(self, routes: Iterable[RouteRow]) -> None:
        """Write the numbers of routes of the controller's file; after the routes themselves.

        A route that is only here was deleted: the next start does not add it again.
        """
        rows = [(route.route_id, route.src, route.dst, jsonb(route.edges)) for route in routes]
        self._writer.put_many(_SAVE_FILE_ROUTE, rows)

    def drop_file_routes(self, route_ids: Iterable[int]) -> None:
        """Forget the numbers of routes that the controller's file does not have any more."""
        self._writer.put_many(_DROP_FILE_ROUTE, [(route_id,) for route_id in route_ids])

    def save_group(self, group: GroupRow) -> None:
        """Write a group; its members and trees have calls of their own."""
        self.changes += 1
        self._writer.put(_SAVE_GROUP, group.group_id, text(group.label), group.src_node_id, group.group_ip)

    def drop_group(self, group_id: int) -> None:
        """Forget a group, and with it its members and trees."""
        self.changes += 1
        self._writer.put(_DROP_GROUP, group_id)

    def give_address(self, group_id: int, group_ip: str) -> None:
        """Write the address of a group that was added by hand without one."""
        self.changes += 1
        self._writer.put(_GIVE_ADDRESS, group_ip, group_id)

    def add_member(self, group_id: int, node_id: int) -> None:
        """Write a membership."""
        self.changes += 1
        self._writer.put(_ADD_MEMBER, group_id, node_id)

    def drop_member(self, group_id: int, node_id: int) -> None:
        """Forget a membership."""
        self.changes += 1
        self._writer.put(_DROP_MEMBER, group_id, node_id)

    def set_trees(self, group_id: int, trees: Iterable[TreeRow]) -> None:
        """Write a group's trees in place of those it had."""
        self.changes += 1
        self._writer.put(_DROP_TREES, group_id)
        rows = [(group_id, tree.tree_id, jsonb(tree.edges), tree.weight) for tree in trees]
        self._writer.put_many(_ADD_TREE, rows)

    def set_partition(self, name: str, groups: Iterable[Iterable[int]]) -> None:
        """Write the groups of the partition in force."""
        self._writer.put(_LAB_PARTITION, jsonb([list(group) for group in groups]), name)

    def lab_ready(self, name: str) -> None:
        """Remember that the lab was ready once."""
        self._writer.put(_LAB_READY, name)


async def begin(connection: AsyncConnection, lab: str) -> LabRow:
    """Count a start of the lab's controller."""
    cursor = await connection.execute(
        "INSERT INTO lab (name, incarnation) VALUES (%s, 1)"
        " ON CONFLICT (name) DO UPDATE SET incarnation = lab.incarnation + 1"
        " RETURNING incarnation, ready_at IS NOT NULL, partition_groups",
        (lab,),
    )
    row = await cursor.fetchone()
    assert row is not None, "an insert that returns something returns it"
    return LabRow(lab, int(row[0]), bool(row[1]), _groups(row[2]))


async def read_nodes(connection: AsyncConnection) -> tuple[NodeRow, ...]:
    """Return all nodes; what one shall be by SQL that was not taken yet is not counted."""
    cursor = await connection.execute(
        "SELECT node_id, name, labels, external, state, private_network_name, private_network_addr,"
        " public_network_addr, process, mtu, CASE WHEN EXISTS (SELECT FROM sql_changes"
        "  WHERE applied_at IS NULL AND table_name = 'nodes'"
        "  AND keys @> jsonb_build_array(jsonb_build_array(node_id))) THEN 'running' ELSE wanted END,"
        " prefixes::text[], uplink FROM nodes ORDER BY node_id"
    )
    rows: list[Any] = await cursor.fetchall()
    return tuple(NodeRow(*[*row[:8], int(row[8]), *row[9:11], tuple(row[11]), row[12]]) for row in rows)


async def read_links(
    connection: AsyncConnection, ends: Iterable[tuple[int, ...]] | None = None
) -> tuple[LinkRow, ...]:
    """Return all links, or those with these ends; one whose impairments make no sense says so."""
    # As text: jsonb can hold a number of thousands of digits, at which the driver would give up on all rows.
    columns = ", ".join(f"{name}::text" for name in _SPEC_COLUMNS)
    which = ""
    values: tuple[list[int], ...] = ()
    if ends is not None:
        which = "WHERE (a, b) IN (SELECT * FROM unnest(%s::bigint[], %s::bigint[]))"
        values = tuple(list(each) for each in zip(*ends, strict=True))
    cursor = await connection.execute(
        f"SELECT a, b, origin, forward_down, backward_down, partitioned, {columns} FROM links {which}"
        " ORDER BY a, b".encode(),
        values,
    )
    rows = await cursor.fetchall()
    traces = await read_traces(connection)
    return tuple([_link(row, traces) for row in rows])


async def read_traces(connection: AsyncConnection) -> dict[str, bytes]:
    """Return the contents of traces, by digest."""
    cursor = await connection.execute("SELECT digest, content FROM traces")
    return {digest: bytes(content) for digest, content in await cursor.fetchall()}


async def read_routes(connection: AsyncConnection, ids: Iterable[int] | None = None) -> tuple[RouteRow, ...]:
    """Return all explicit routes, or those of these numbers."""
    cursor = await connection.execute(
        "SELECT route_id, src_node_id, dst_node_id, edges, origin, weight FROM routes"
        f" {_which('route_id', ids)} ORDER BY route_id".encode(),
        () if ids is None else (list(ids),),
    )
    rows: list[Any] = await cursor.fetchall()
    return tuple(RouteRow(*[*row[:3], _edges(row[3]), *row[4:]]) for row in rows)


async def read_file_routes(connection: AsyncConnection) -> tuple[RouteRow, ...]:
    """Return the routes of the controller's file with their numbers, deleted ones included."""
    cursor = await connection.execute("SELECT route_id, src_node_id, dst_node_id, edges FROM file_routes")
    rows: list[Any] = await cursor.fetchall()
    return tuple(RouteRow(row[0], row[1], row[2], _edges(row[3])) for row in rows)


async def read_deleted_links(connection: AsyncConnection) -> frozenset[tuple[int, int]]:
    """Return the ends of links of the controller's file that were deleted by SQL."""
    cursor = await connection.execute("SELECT key FROM deleted_from_file WHERE table_name = 'links'")
    return frozenset((key[0], key[1]) for (key,) in await cursor.fetchall())


_NEW_ROUTES = """
    SELECT number FROM (SELECT nextval('route_numbers') AS number FROM generate_series(1, %s)) AS new
    WHERE NOT EXISTS (SELECT FROM routes WHERE route_id = number)
        AND NOT EXISTS (SELECT FROM file_routes WHERE route_id = number)
    ORDER BY number"""


async def new_routes(connection: AsyncConnection, count: int) -> list[int]:
    """Return numbers for new routes, in order, that nobody else gets; `nm_next_route` for many at once."""
    found: list[int] = []
    while len(found) < count:
        cursor = await connection.execute(_NEW_ROUTES, (count - len(found),))
        found += [int(row[0]) for row in await cursor.fetchall()]
    return found


async def new_pin(connection: AsyncConnection) -> int:
    """Return a number for a new pin, which nobody else gets."""
    cursor = await connection.execute("SELECT nm_next_pin()")
    row = await cursor.fetchone()
    assert row is not None, "a function returns a row"
    return int(row[0])


async def read_groups(connection: AsyncConnection, ids: Iterable[int] | None = None) -> tuple[GroupRow, ...]:
    """Return all groups with their members and trees, or those of these numbers."""
    which, values = _which("group_id", ids).encode(), () if ids is None else (list(ids),)
    members: dict[int, list[int]] = defaultdict(list)
    cursor = await connection.execute(
        b"SELECT group_id, node_id FROM group_members %s ORDER BY group_id, node_id" % which, values
    )
    for group_id, node_id in await cursor.fetchall():
        members[group_id].append(node_id)
    trees: dict[int, list[TreeRow]] = defaultdict(list)
    cursor = await connection.execute(
        b"SELECT group_id, tree_id, edges, weight FROM group_trees %s ORDER BY group_id, tree_id" % which,
        values,
    )
    for group_id, tree_id, edges, weight in await cursor.fetchall():
        trees[group_id].append(TreeRow(tree_id, _edges(edges), weight))
    cursor = await connection.execute(
        b"SELECT group_id, label, src_node_id, group_ip FROM groups %s ORDER BY group_id" % which, values
    )
    rows: list[Any] = await cursor.fetchall()
    return tuple(GroupRow(*[*row, tuple(members[row[0]]), tuple(trees[row[0]])]) for row in rows)


def _which(column: str, ids: Iterable[int] | None) -> str:
    return "" if ids is None else f"WHERE {column} = ANY(%s)"


def _node_values(node: NodeRow) -> tuple[Any, ...]:
    return (
        node.node_id,
        text(node.name),
        jsonb(dict(node.labels)),
        node.external,
        node.state,
        text(node.private_network_name),
        text(node.private_network_addr),
        text(node.public_network_addr),
        node.process,
        node.mtu,
        node.wanted,
        list(node.prefixes),
        node.uplink,
        node.process,
    )


def link_values(link: LinkRow) -> tuple[Any, ...]:
    """Return the values of a link in the order of the columns of `links`."""
    now = [None if spec is None else jsonb(spec.to_wire()) for spec in (link.forward_now, link.backward_now)]
    declared = [jsonb(spec.to_wire()) for spec in (link.forward, link.backward)]
    down = (link.forward_down, link.backward_down, link.partitioned)
    return (link.a, link.b, *declared, *now, link.origin, *down)


_SPEC_COLUMNS = ("forward", "backward", "forward_now", "backward_now")


def _link(row: Any, traces: Mapping[str, bytes]) -> LinkRow:
    a, b, origin, forward_down, backward_down, partitioned, *texts = row
    link = LinkRow(
        a,
        b,
        origin=origin,
        forward_down=forward_down,
        backward_down=backward_down,
        partitioned=partitioned,
    )
    specs: dict[str, Any] = {}
    for name, value in zip(_SPEC_COLUMNS, texts, strict=True):
        if value is None:
            continue
        try:
            spec, in_words = read_spec(name, value)
            specs[name] = with_trace(spec, traces)
        except ValueError as error:
            return replace(link, refusal=f"{name}: {error}")
        specs["in_words"] = in_words or specs.get("in_words", False)
    return replace(link, **specs)


def _groups(value: Any) -> tuple[tuple[int, ...], ...]:
    try:
        return tuple(tuple(map(int, group)) for group in value)
    except (TypeError, ValueError):
        return ()  # written by hand and no list of groups


def _edges(value: Any) -> Edges:
    try:
        return tuple((int(start), int(end)) for start, end in value)
    except (TypeError, ValueError):
        return ()  # written by hand and no list of pairs; a route without edges leads nowhere
