"""Call the command line in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.cli.main import run
from tests.said import Said

Nm = Callable[..., Said]


@pytest.fixture
def nm(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Nm:
    """Call `nm` with words; its home is a fresh folder."""
    monkeypatch.setenv("NM_HOME", str(tmp_path / "home"))

    def call(*words: object) -> Said:
        capsys.readouterr()
        code = run([str(word) for word in words])
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return call
