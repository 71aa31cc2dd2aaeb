"""Test how an empty cluster is made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.errors import StoreUnavailable
from orchestrator.store import cluster


def test_an_initdb_that_does_not_end_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "initdb"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr(cluster, "_LIMIT_S", 0.1)
    (tmp_path / "data").mkdir()
    with pytest.raises(StoreUnavailable) as caught:
        cluster.initialise(
            tmp_path,
            tmp_path / "data",
            None,
            keep_read_capability=False,
            variables={"PATH": os.defpath},
        )
    assert "did not end" in (caught.value.hint or "")
