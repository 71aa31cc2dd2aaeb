"""Migrate a database to this release's schema, one numbered file after the other.

Two controllers that start at once do not disturb each other: the first takes an advisory lock, the second
waits for it and finds nothing left to do. Each file runs in a transaction of its own, with its number.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from orchestrator.store.errors import SchemaTooNew

if TYPE_CHECKING:
    from psycopg import AsyncConnection

__all__ = ["Migration", "migrate", "migrations"]

_LOCK = 0x6E6D5F6D6967  # "nm_mig"; any number that is not used otherwise in this database


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema."""

    number: int
    name: str
    sql: str


def migrations() -> list[Migration]:
    """Return the steps that this release knows, in order; their numbers have no gaps."""
    found = []
    for file in resources.files(__package__).joinpath("migrations").iterdir():
        stem, dot, suffix = file.name.partition(".")
        number, _, name = stem.partition("_")
        if dot and suffix == "sql" and number.isdigit():
            found.append(Migration(int(number), name, file.read_text(encoding="utf-8")))
    return sorted(found, key=lambda step: step.number)


async def migrate(connection: AsyncConnection) -> int:
    """Apply the steps that are missing; return how many those were.

    Args:
        connection: In autocommit mode.

    Raises:
        SchemaTooNew: The database has steps that this release does not know.
    """
    await connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
    try:
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations"
            " (number bigint PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        cursor = await connection.execute("SELECT coalesce(max(number), 0) FROM schema_migrations")
        row = await cursor.fetchone()
        current = int(row[0]) if row else 0
        steps = migrations()
        if current > len(steps):
            raise SchemaTooNew(
                f"the database has schema {current}, but this release knows {len(steps)}",
                found=str(current),
                expected=f"at most {len(steps)}",
                hint="use the nm release that made it",
            )
        missing = steps[current:]
        for step in missing:
            async with connection.transaction():
                await connection.execute(step.sql.encode())
                await connection.execute(
                    "INSERT INTO schema_migrations (number, name) VALUES (%s, %s)", (step.number, step.name)
                )
        return len(missing)
    finally:
        await connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))
