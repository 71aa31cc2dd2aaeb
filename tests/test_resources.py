"""Test the location of shipped files."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator import resources


@pytest.mark.parametrize("kind", ["topologies", "scenarios", "compose"])
def test_every_kind_has_a_folder(kind: str) -> None:
    assert resources.path(kind).is_dir()


def test_a_kind_that_does_not_exist_is_our_mistake() -> None:
    with pytest.raises(ValueError, match="no resources"):
        resources.path("../etc")


def test_an_incomplete_installation_says_where_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "_CHECKOUT", tmp_path / "a")
    monkeypatch.setattr(resources, "_INSTALLED", tmp_path / "b")
    with pytest.raises(FileNotFoundError, match="neither in"):
        resources.path("compose")
