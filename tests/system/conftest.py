"""Fixtures: labs of containers; skipped without an engine or images."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.testing.plugin import labs, nm_home, require_backend
from tests.integration.conftest import home, nm

__all__ = ["home", "labs", "nm", "nm_home"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs what the marker says, and longer than other tests."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.system)
            item.add_marker(pytest.mark.timeout(400))


@pytest.fixture(scope="session", autouse=True)
def docker_labs_can_run() -> None:
    require_backend("docker")
