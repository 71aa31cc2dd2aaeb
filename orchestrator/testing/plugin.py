"""Pytest fixtures: labs in a temporary home, taken down after the test.

nm_home    a fresh home, set as NM_HOME for this process and what it starts
labs       brings labs up; takes them down after the test and proves that nothing is left
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator.deploy.home import Home
from orchestrator.deploy.preflight import examine
from orchestrator.deploy.state import Backend
from orchestrator.lab import Lab, loop_thread
from orchestrator.lab.down import take_all_down
from orchestrator.testing.leftovers import leftovers
from orchestrator.topology import Topology, loads

__all__ = ["Labs", "labs", "nm_home", "require_backend"]


class Labs:
    """Brings labs up for one test.

    Args:
        home: Where they live.
    """

    def __init__(self, home: Home) -> None:
        self.home = home
        self._engine = False

    def up(self, topology: str | Path | Topology, *, backend: Backend = "native", **options: Any) -> Lab:
        """Bring a topology up: a file, a `Topology`, or the text of one. See `Lab.up` for the options."""
        require_backend(backend)
        self._engine = self._engine or backend == "docker"
        if isinstance(topology, str) and "\n" in topology:
            topology = loads(topology, "test.yaml")
        return Lab.up(topology, backend=backend, home=self.home, **options)

    def end(self) -> None:
        """Take everything down and prove that nothing is left."""
        loop_thread.call(take_all_down(self.home, lambda _what: None))
        assert leftovers(self.home, engine=self._engine) == []


@pytest.fixture
def nm_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home directory for this test alone."""
    home = Home(tmp_path / "nm")
    monkeypatch.setenv("NM_HOME", str(home.path))
    return home


@pytest.fixture
def labs(nm_home: Home) -> Iterator[Labs]:
    """Labs for this test."""
    factory = Labs(nm_home)
    yield factory
    factory.end()


def require_backend(backend: Backend, nodes: int = 4) -> None:
    """Skip the test, with the reason, where the machine cannot carry such a lab."""
    missing: Sequence[str] = [
        f"{f.name}: {f.detail}" for f in examine(backend, nodes) if f.level == "problem"
    ]
    if missing:
        pytest.skip(f"no {backend} labs here: {'; '.join(missing)}")
