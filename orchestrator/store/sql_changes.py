"""Read what was changed by SQL, and undo and record what the controller refuses.

Triggers note each statement in `sql_changes`, with the keys of its rows (migration 0007). The controller
reads the rows of these keys only: a change costs as much as it is large, however large the tables are.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.impairment import FIELDS, FieldKind
from orchestrator.store.lab import link_values, read_groups, read_links, read_routes
from orchestrator.store.pins import read_pins
from orchestrator.store.rows import GroupRow, LinkRow, PinRow, RouteRow, TreeRow, WantedRow
from orchestrator.store.values import jsonb, text
from orchestrator.store.writer import Statement, Writer

if TYPE_CHECKING:
    from psycopg import AsyncConnection

__all__ = ["Changed", "SqlChange", "SqlTables", "fill_link_fields", "read_changes"]

KEPT = 10_000
"""Statements that `sql_changes` keeps, and rows that `rejections` keeps; older ones are removed."""

MOST_KEYS = 200_000
"""Keys that one reading takes; the statements behind them are read next."""

Key = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SqlChange:
    """A statement that changed a table.

    Attributes:
        number: Its number.
        table: The table.
        operation: `insert`, `update` or `delete`.
        keys: The primary keys of the rows.
        role: Who made it, as a role of Postgres.
        application: The name that its connection gave to itself.
    """

    number: int
    table: str
    operation: str
    keys: tuple[Key, ...]
    role: str
    application: str


@dataclass(frozen=True, slots=True)
class Changed:
    """Statements that wait for the controller, and the rows that they name as they are now.

    A row that is named and not there was deleted.

    Attributes:
        changes: In order.
        links: By ends.
        routes: By number.
        groups: By number.
        pins: By number.
        versions: The version (`xmin`) of each row that is there, by table and key.
    """

    changes: tuple[SqlChange, ...] = ()
    links: Mapping[Key, LinkRow] = field(default_factory=dict)
    routes: Mapping[Key, RouteRow] = field(default_factory=dict)
    groups: Mapping[Key, GroupRow] = field(default_factory=dict)
    versions: Mapping[tuple[str, Key], str] = field(default_factory=dict)
    nodes: Mapping[Key, WantedRow] = field(default_factory=dict)
    pins: Mapping[Key, PinRow] = field(default_factory=dict)

    def keys(self, *tables: str) -> list[Key]:
        """Return the keys of rows of these tables that were changed, each once."""
        named = (key for change in self.changes if change.table in tables for key in change.keys)
        return list(dict.fromkeys(named))

    def causes(self) -> dict[tuple[str, Key], SqlChange]:
        """Return the last statement that changed each row, by table and key."""
        return {(change.table, key): change for change in self.changes for key in change.keys}

    @property
    def cut(self) -> bool:
        """Whether more statements may wait."""
        return sum(len(change.keys) for change in self.changes) >= MOST_KEYS


_KEYS = {
    "links": ("a", "b"),
    "routes": ("route_id",),
    "flow_pins": ("pin_id",),
    "groups": ("group_id",),
    "group_members": ("group_id", "node_id"),
    "group_trees": ("group_id", "tree_id"),
    "nodes": ("node_id",),
}
_SET = {
    "links": (
        "forward",
        "backward",
        "forward_now",
        "backward_now",
        "origin",
        "forward_down",
        "backward_down",
        "partitioned",
    ),
    "routes": ("src_node_id", "dst_node_id", "edges", "origin", "weight"),
    "flow_pins": ("src_node_id", "dst_node_id", "route_id", "protocol", "src_port", "dst_port"),
    "groups": ("label", "src_node_id", "group_ip"),
    "group_trees": ("edges", "weight"),
    "nodes": ("wanted",),
}
"""The columns that the controller writes, besides the key."""


def _of(table: str) -> str:
    """Return the condition that a row is still the one that was read: its key, and its version at the end."""
    return " AND ".join([*(f"{column} = %s" for column in _KEYS[table]), "xmin::text = %s"])


# A row that was changed again meanwhile is left alone: the next reading judges it.
_REJECT = {
    table: Statement(
        "INSERT INTO rejections (table_name, key, rejected, reason, error, role, application, change)"
        f" SELECT '{table}', %s, to_jsonb({table}), %s, %s, %s, %s, %s FROM {table} WHERE {_of(table)}"
    )
    for table in _KEYS
}
_UNDO_INSERT = {table: Statement(f"DELETE FROM {table} WHERE {_of(table)}") for table in _KEYS}
_UNDO_UPDATE = {
    table: Statement(
        f"UPDATE {table} SET {', '.join(f'{column} = %s' for column in columns)} WHERE {_of(table)}"
    )
    for table, columns in _SET.items()
}
_APPLIED = Statement("UPDATE sql_changes SET applied_at = clock_timestamp() WHERE change = %s")
_CONFIRMED = Statement("UPDATE sql_changes SET confirmed_at = clock_timestamp() WHERE change = %s")
_PRUNE_CHANGES = Statement("DELETE FROM sql_changes WHERE applied_at IS NOT NULL AND change <= %s")
_PRUNE_REJECTIONS = Statement("DELETE FROM rejections WHERE id <= (SELECT max(id) FROM rejections) - %s")


class SqlTables:
    """Writes the controller's answers to changes by SQL; nothing here waits."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def applied(self, changes: Collection[SqlChange]) -> None:
        """Record that statements need not be read again."""
        self._writer.put_many(_APPLIED, [(change.number,) for change in changes])
        self._writer.put(_PRUNE_CHANGES, max(change.number for change in changes) - KEPT)

    def confirmed(self, changes: Collection[SqlChange]) -> None:
        """Record that the nodes have confirmed what statements changed."""
        self._writer.put_many(_CONFIRMED, [(change.number,) for change in changes])

    def rejected(
        self, table: str, key: Key, version: str, change: SqlChange, error: str, reason: str
    ) -> None:
        """Keep a row as it is in `rejections`, before it is undone."""
        cause = (text(change.role), text(change.application), change.number)
        self._writer.put(_REJECT[table], jsonb(list(key)), text(reason), error, *cause, *key, version)
        self._writer.put(_PRUNE_REJECTIONS, KEPT)

    def undo(self, table: str, key: Key, version: str, row: object | None) -> None:
        """Make a row what it was; None removes one that was not there.

        Args:
            table: Its table.
            key: Its key.
            version: The version of the row that is undone; one that was written since stays.
            row: A `LinkRow`, `RouteRow`, `PinRow`, `GroupRow`, `TreeRow` or `WantedRow`.
        """
        if row is None:
            self._writer.put(_UNDO_INSERT[table], *key, version)
        else:
            self._writer.put(_UNDO_UPDATE[table], *_values(row), *key, version)


def _values(row: object) -> Sequence[Any]:
    """Return the values of a row in the order of `_SET`."""
    match row:
        case LinkRow():
            return link_values(row)[2:]
        case RouteRow():
            return (row.src, row.dst, jsonb(row.edges), row.origin, row.weight)
        case PinRow():
            return (row.src, row.dst, row.route_id, row.protocol, row.src_port, row.dst_port)
        case GroupRow():
            return (text(row.label), row.src_node_id, row.group_ip)
        case TreeRow():
            return (jsonb(row.edges), row.weight)
        case WantedRow():
            return (row.wanted,)
    raise TypeError(f"{type(row).__name__} is no row that SQL changes")


async def read_changes(connection: AsyncConnection) -> Changed:
    """Return the statements that wait, and their rows, all as of one moment; in a transaction of its own."""
    await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    cursor = await connection.execute(
        "SELECT change, table_name, operation, keys::text, role, application FROM (SELECT *,"
        "  sum(jsonb_array_length(keys)) OVER (ORDER BY change) - jsonb_array_length(keys) AS before"
        "  FROM sql_changes WHERE applied_at IS NULL) AS waiting WHERE before < %s ORDER BY change",
        (MOST_KEYS,),
    )
    changes = []
    for number, table, operation, keys, *cause in await cursor.fetchall():
        read = tuple(tuple(key) for key in json.loads(keys))
        changes.append(SqlChange(number, table, operation, read, *cause))
    named = Changed(tuple(changes))
    if not changes:
        return named
    links, routes, pins = (named.keys(table) for table in ("links", "routes", "flow_pins"))
    groups = [(key[0],) for key in named.keys("groups", "group_members", "group_trees")]
    versions: dict[tuple[str, Key], str] = {}
    for table in _KEYS:
        keys = [key for change in changes if change.table == table for key in change.keys]
        if keys:
            versions |= await _versions(connection, table, keys)
    return Changed(
        tuple(changes),
        {(row.a, row.b): row for row in await read_links(connection, links)} if links else {},
        {(row.route_id,): row for row in await read_routes(connection, [key[0] for key in routes])}
        if routes
        else {},
        {(row.group_id,): row for row in await read_groups(connection, [key[0] for key in groups])}
        if groups
        else {},
        versions,
        await _wanted(connection, named.keys("nodes")),
        {(row.pin_id,): row for row in await read_pins(connection, [key[0] for key in pins])} if pins else {},
    )


async def _wanted(connection: AsyncConnection, keys: Collection[Key]) -> dict[Key, WantedRow]:
    """Return what nodes shall be."""
    if not keys:
        return {}
    ids = [key[0] for key in keys]
    query = "SELECT node_id, wanted FROM nodes WHERE node_id = ANY(%s)"
    cursor = await connection.execute(query, (ids,))
    return {(node_id,): WantedRow(node_id, wanted) for node_id, wanted in await cursor.fetchall()}


async def _versions(
    connection: AsyncConnection, table: str, keys: Iterable[Key]
) -> dict[tuple[str, Key], str]:
    columns = _KEYS[table]
    lists = [list(values) for values in zip(*keys, strict=True)]
    wanted = ", ".join(["%s::bigint[]"] * len(columns))
    cursor = await connection.execute(
        f"SELECT {', '.join(columns)}, xmin::text FROM {table}"
        f" WHERE ({', '.join(columns)}) IN (SELECT * FROM unnest({wanted}))".encode(),
        lists,
    )
    rows: list[Any] = await cursor.fetchall()
    return {(table, tuple(row[:-1])): row[-1] for row in rows}


async def fill_link_fields(connection: AsyncConnection) -> None:
    """Write the fields of a link that this release knows, by which triggers check them."""
    rows = [
        (
            name,
            rule.key,
            _KINDS.get(rule.kind, "integer"),
            rule.kind.value,
            rule.least,
            rule.most,
            jsonb(list(rule.words)) if rule.words else None,
        )
        for name, rule in FIELDS.items()
        if rule.kind is not FieldKind.DATA
    ]
    async with connection.transaction(), connection.cursor() as cursor:
        await cursor.execute("DELETE FROM link_fields")
        await cursor.executemany(
            "INSERT INTO link_fields (name, key, kind, unit, least, most, words)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s)",
            rows,
        )


_KINDS = {
    FieldKind.PROBABILITY: "number",
    FieldKind.NUMBER: "number",
    FieldKind.FLAG: "flag",
    FieldKind.WORD: "word",
    FieldKind.NUMBERS: "list",
    FieldKind.WEIGHTS: "map",
    FieldKind.TEXT: "text",
}
"""How the values of a field are checked by SQL; those of the other kinds are whole numbers."""
