"""Write and read the pins of flows to explicit routes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from orchestrator.store.rows import PinRow
from orchestrator.store.writer import Statement

if TYPE_CHECKING:
    from psycopg import AsyncConnection

__all__ = ["DROP_PIN", "SAVE_PIN", "pin_values", "read_pins"]

_COLUMNS = "pin_id, src_node_id, dst_node_id, route_id, protocol, src_port, dst_port"
SAVE_PIN = Statement(f"""
    INSERT INTO flow_pins ({_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (pin_id) DO UPDATE SET
        src_node_id = excluded.src_node_id, dst_node_id = excluded.dst_node_id, route_id = excluded.route_id,
        protocol = excluded.protocol, src_port = excluded.src_port, dst_port = excluded.dst_port""")
DROP_PIN = Statement("DELETE FROM flow_pins WHERE pin_id = %s")


def pin_values(pin: PinRow) -> tuple[int | None, ...]:
    """Return the values of a pin in the order of `SAVE_PIN`."""
    ports = (pin.protocol, pin.src_port, pin.dst_port)
    return (pin.pin_id, pin.src, pin.dst, pin.route_id, *ports)


async def read_pins(connection: AsyncConnection, ids: Iterable[int] | None = None) -> tuple[PinRow, ...]:
    """Return all pins, or those of these numbers."""
    cursor = await connection.execute(
        f"SELECT {_COLUMNS} FROM flow_pins WHERE %s::bigint[] IS NULL OR pin_id = ANY(%s)"
        " ORDER BY pin_id".encode(),
        (wanted := None if ids is None else list(ids), wanted),
    )
    return tuple(PinRow(*row) for row in await cursor.fetchall())
