"""Test the staging of files for nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from orchestrator.errors import HostNotFit
from orchestrator.lab.payload import stage
from tests.lab.conftest import MakeLab


class ContainerHost:
    def payload_path(self, staged: Path) -> str:
        return f"/share/{staged.name}"


host = cast(Any, ContainerHost())


async def test_a_readable_file_is_linked_into_the_share(make_lab: MakeLab, tmp_path: Path) -> None:
    directory, _ = make_lab()
    payload = tmp_path / "model.bin"
    payload.write_bytes(b"weights")
    payload.chmod(0o644)
    seen = await stage(host, directory, "docker", payload)
    staged = directory.share / Path(seen).name
    assert seen.startswith("/share/") and seen.endswith("-model.bin")
    assert staged.stat().st_ino == payload.stat().st_ino
    assert await stage(host, directory, "docker", payload) == seen


async def test_a_private_file_is_copied_and_stays_private(make_lab: MakeLab, tmp_path: Path) -> None:
    directory, _ = make_lab()
    payload = tmp_path / "model.bin"
    payload.write_bytes(b"weights")
    payload.chmod(0o600)
    staged = directory.share / Path(await stage(host, directory, "docker", payload)).name
    assert staged.read_bytes() == b"weights"
    assert staged.stat().st_mode & 0o777 == 0o644
    assert payload.stat().st_mode & 0o777 == 0o600


async def test_natively_the_file_is_simply_there(make_lab: MakeLab, tmp_path: Path) -> None:
    from orchestrator.deploy.native import NativeHost

    assert await stage(NativeHost(), make_lab()[0], "native", tmp_path / "x") == str(tmp_path / "x")


async def test_a_share_that_is_gone_is_named(make_lab: MakeLab, tmp_path: Path) -> None:
    directory, _ = make_lab()
    directory.share.rmdir()
    payload = tmp_path / "model.bin"
    payload.write_bytes(b"weights")
    with pytest.raises(HostNotFit) as caught:
        await stage(host, directory, "docker", payload)
    assert caught.value.id == "payload.staging"
