"""Fixtures for fakes of this folder."""

from __future__ import annotations

import pytest

from orchestrator.node import dataplane

pytest.register_assert_rewrite("tests.node.fakes")


@pytest.fixture(autouse=True)
def views_are_fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake node is its own view."""
    monkeypatch.setattr(dataplane, "run_view", lambda node: node)
