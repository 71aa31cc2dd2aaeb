"""An embedded server for the tests of a folder, and empty databases for single tests."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import psycopg
import pytest

from orchestrator.store.embedded import EmbeddedPostgres

__all__ = ["new_database", "postgres"]

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """The server; a test may kill it."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("pg") / "db") as server:
        yield server


def new_database(server: EmbeddedPostgres) -> str:
    """Make a database that only one test uses, and return its name."""
    server.start()  # a test may have killed it
    name = f"test_{next(_numbers)}"
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} STRATEGY wal_log".encode())
    return name
