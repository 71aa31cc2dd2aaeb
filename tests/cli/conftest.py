"""Call the command line in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.cli.main import run
from tests.command_result import CommandResult

Nm = Callable[..., CommandResult]


@pytest.fixture
def nm(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Nm:
    """Call `nm` with words; its home is a fresh folder."""
    monkeypatch.setenv("NM_HOME", str(tmp_path / "home"))

    def call(*words: object) -> CommandResult:
        capsys.readouterr()
        code = run([str(word) for word in words])
        captured = capsys.readouterr()
        return CommandResult(code, captured.out, captured.err)

    return call
