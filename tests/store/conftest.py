"""One embedded server for the tests of this folder, and an empty database for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from orchestrator.store.embedded import EmbeddedPostgres

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(tmp_path_factory.mktemp("pg") / "db") as server:
        yield server


@pytest.fixture
def database(postgres: EmbeddedPostgres) -> Iterator[str]:
    """How to connect to a database that only this test uses."""
    postgres.start()  # a test may have killed it
    name = f"test_{next(_numbers)}"
    with psycopg.connect(postgres.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} STRATEGY wal_log".encode())
    yield postgres.dsn.replace("dbname=postgres", f"dbname={name}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path
