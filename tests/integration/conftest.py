"""Fixtures: real labs with namespaces, TUN devices, an embedded Postgres and a controller process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.main import run
from orchestrator.deploy import state
from orchestrator.deploy.home import Home
from orchestrator.lab import Lab
from orchestrator.procfs import ProcessId
from orchestrator.testing.plugin import Labs, labs, nm_home, require_backend
from tests.command_result import CommandResult

__all__ = ["labs", "nm_home"]

ROOT = Path(__file__).resolve().parents[2]
RING = ROOT / "topologies" / "ring.yaml"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs what the marker says."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="session", autouse=True)
def native_labs_can_run() -> None:
    require_backend("native")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The home of labs that the tests of one file share."""
    return Home(tmp_path_factory.mktemp("home") / "nm")


def shared_lab(topology: str | Path, **options: Any) -> Any:
    """Return a fixture: one lab for all tests of a file, in `home`; see `Labs.up` for the options."""

    @pytest.fixture(scope="module")
    def lab(home: Home) -> Iterator[Lab]:
        labs = Labs(home)
        try:
            yield labs.up(topology, **options)
        finally:
            labs.end()

    return lab


class Nm:
    """Calls `nm` as a user does."""

    def __init__(self, home: Home, cwd: Path) -> None:
        self._home = home
        self._cwd = cwd

    def __call__(self, *words: object, timeout: float = 90) -> CommandResult:
        process = self.start(*words)
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            process.kill()
        return CommandResult(process.returncode, out, err)

    def start(self, *words: object) -> subprocess.Popen[str]:
        """Start it and return at once. A run has a report, a second of work, on request."""
        if words[:2] == ("run", "scenario") and "--report" not in words and "--dry-run" not in words:
            words = (*words, "--no-report")
        return subprocess.Popen(
            [sys.executable, "-m", "orchestrator.cli", *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self._cwd,
            env={**os.environ, "NM_HOME": str(self._home.path), "PYTHONPATH": str(ROOT)},
        )


@pytest.fixture
def nm(nm_home: Home, tmp_path: Path) -> Nm:
    """`nm` with the test's own home, in the test's own folder."""
    return Nm(nm_home, tmp_path)


Here = Callable[..., CommandResult]


@pytest.fixture
def here(
    nm_home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Here:
    """Call `nm` in this process, which is quicker and lets a test reach into it."""
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> CommandResult:
        capsys.readouterr()
        code = run([str(word) for word in words])
        return CommandResult(code, *capsys.readouterr())

    return call


@pytest.fixture
def part(nm_home: Home) -> Callable[[str, str], ProcessId]:
    """Find a part of a lab by its role."""

    def find(lab: str, role: str) -> ProcessId:
        note = state.read(nm_home.lab(lab))
        assert note is not None
        return note.parts[role]

    return find
