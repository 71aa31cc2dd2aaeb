"""Fixtures: a real Postgres and controllers that use it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from orchestrator.controller.service import Controller
from orchestrator.settings.controller import ControllerSettings
from orchestrator.store.embedded import EmbeddedPostgres
from tests.postgres import new_database, postgres

__all__ = ["database", "postgres"]


Start = Callable[[ControllerSettings], Any]


@pytest.fixture
def database(postgres: EmbeddedPostgres) -> dict[str, Any]:
    """How to connect to a database that only this test uses, as the controller's file says it."""
    return {**postgres.parameters, "database": new_database(postgres)}


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
