"""Fixtures: a real Postgres and controllers that use it."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import psycopg
import pytest

from orchestrator.controller.service import Controller
from orchestrator.settings.controller import ControllerSettings
from orchestrator.store.embedded import EmbeddedPostgres

_numbers = itertools.count(1)

Start = Callable[[ControllerSettings], Any]


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(tmp_path_factory.mktemp("pg") / "db") as server:
        yield server


@pytest.fixture
def database(postgres: EmbeddedPostgres) -> dict[str, Any]:
    """How to connect to a database that only this test uses, as the controller's file says it."""
    postgres.start()  # a test may have killed it
    name = f"lab_{next(_numbers)}"
    with psycopg.connect(postgres.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} STRATEGY wal_log".encode())
    return {**postgres.parameters, "database": name}


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start controllers; those that still run are stopped at the end."""
    async with AsyncExitStack() as stack:

        async def begin(settings: ControllerSettings) -> Controller:
            controller = Controller(settings)
            await controller.start()
            stack.push_async_callback(controller.stop)
            return controller

        yield begin
