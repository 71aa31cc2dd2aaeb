"""Test that an empty cluster is kept, and that later servers begin with a copy of it."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from orchestrator.store import cluster
from orchestrator.store.embedded import EmbeddedPostgres

pytestmark = pytest.mark.integration


@contextmanager
def server(folder: Path, cache: Path) -> Iterator[EmbeddedPostgres]:
    started = EmbeddedPostgres(folder, kept_clusters=cache)
    with started:
        with psycopg.connect(started.dsn, autocommit=True) as connection:
            names = connection.execute("SELECT datname FROM pg_database").fetchall()
        assert names == [("postgres",)]
        yield started


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a first server has left a cluster."""
    base = tmp_path_factory.mktemp("kept")
    with server(base / "first", base / "cache") as first, psycopg.connect(first.dsn) as connection:
        connection.execute("CREATE TABLE mine (n int)")  # stays in the first server's own
    return base / "cache"


def kept(cache: Path) -> Path:
    [file] = cache.iterdir()
    return file


def test_a_later_server_makes_no_cluster_and_has_nothing_of_the_first(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kept(cache).stat().st_mode & 0o077 == 0 and cache.stat().st_mode & 0o077 == 0
    monkeypatch.delattr(cluster, "initialise")
    with server(tmp_path / "db", cache) as later, psycopg.connect(later.dsn) as connection:
        assert connection.execute("SELECT to_regclass('mine')").fetchall() == [(None,)]
        for path in (later.data, *later.data.rglob("*")):
            assert path.stat().st_uid == later.data.stat().st_uid
            assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("damage", ["cut off", "no archive", "empty", "gone", "another user's"])
def test_what_cannot_be_used_is_replaced(cache: Path, tmp_path: Path, damage: str) -> None:
    if damage == "another user's" and os.geteuid() != 0:
        pytest.skip("only root gives files away")
    mine = tmp_path / "cache"
    mine.mkdir()
    file = mine / kept(cache).name
    whole = kept(cache).read_bytes()
    if damage != "gone":
        content = {"cut off": whole[: len(whole) // 2], "no archive": b"x" * 5000, "empty": b""}
        file.write_bytes(content.get(damage, whole))
    if damage == "another user's":
        os.chown(file, 12345, 12345)
    with server(tmp_path / "db", mine):
        pass
    assert file.stat().st_uid == os.geteuid()
    with tarfile.open(file) as archive:
        assert archive.getnames()[-1] == cluster.COMPLETE


def test_a_file_cannot_write_outside_the_cluster(tmp_path: Path) -> None:
    data = tmp_path / "db" / "data"
    data.mkdir(parents=True)
    for name in ("../taken", str(tmp_path / "taken")):
        file = tmp_path / "cluster.tar"
        with tarfile.open(file, "w") as archive:
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
        assert not cluster.unpack(file, data, None)
        assert not list(tmp_path.rglob("taken"))


def test_a_folder_that_cannot_be_written_does_not_prevent_a_start(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in the way")
    with server(tmp_path / "db", tmp_path / "cache"):
        pass
