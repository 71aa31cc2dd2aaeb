"""One embedded server for the tests of this folder, and an empty database for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.store.embedded import EmbeddedPostgres
from tests.postgres import new_database, postgres

__all__ = ["database", "postgres"]


@pytest.fixture
def database(postgres: EmbeddedPostgres) -> str:
    """How to connect to a database that only this test uses."""
    return postgres.dsn.replace("dbname=postgres", f"dbname={new_database(postgres)}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path
