"""Test that an empty cluster is kept, and that later servers begin with a copy of it."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import psycopg
import pytest

from orchestrator.errors import StoreUnavailable
from orchestrator.store import cluster, embedded
from orchestrator.store.embedded import EmbeddedPostgres

pytestmark = pytest.mark.integration


@contextmanager
def server(folder: Path, cache: Path) -> Iterator[EmbeddedPostgres]:
    started = EmbeddedPostgres(folder, kept_clusters=cache)
    with started:
        with psycopg.connect(started.dsn, autocommit=True) as connection:
            names = connection.execute("SELECT datname FROM pg_database").fetchall()
        assert {name for (name,) in names} == {"postgres", "template0", "template1"}
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


def test_databases_can_be_created_in_a_copy(cache: Path, tmp_path: Path) -> None:
    with server(tmp_path / "db", cache) as later, psycopg.connect(later.dsn, autocommit=True) as connection:
        connection.execute("CREATE DATABASE mine")
        connection.execute("CREATE DATABASE other TEMPLATE template0")


@pytest.mark.parametrize("damage", ["cut off", "no archive", "empty", "gone", "zeroed", "another user's"])
def test_what_cannot_be_used_is_replaced(cache: Path, tmp_path: Path, damage: str) -> None:
    if damage == "another user's" and os.geteuid() != 0:
        pytest.skip("only root gives files away")
    mine = tmp_path / "cache"
    mine.mkdir()
    file = mine / kept(cache).name
    whole = kept(cache).read_bytes()
    content = {
        "cut off": whole[: len(whole) // 2],
        "no archive": b"x" * 5000,
        "empty": b"",
        "zeroed": whole.replace(control_file(cache), bytes(len(control_file(cache)))),
    }
    if damage != "gone":
        file.write_bytes(content.get(damage, whole))
    if damage == "another user's":
        os.chown(file, 12345, 12345)
    data = tmp_path / "unused"
    data.mkdir()
    assert not cluster.unpack(file, data, None) and not list(data.iterdir())
    with server(tmp_path / "db", mine):
        pass
    assert kept(mine).stat().st_uid == os.geteuid()
    assert cluster.unpack(kept(mine), data, None)


def test_a_kept_cluster_with_which_postgres_does_not_start_is_replaced(cache: Path, tmp_path: Path) -> None:
    mine = tmp_path / "cache"
    file = mine / kept(cache).name
    data = tmp_path / "damaged"
    data.mkdir()
    assert cluster.unpack(kept(cache), data, None)
    (data / "global" / "pg_control").write_bytes(b"")
    cluster.keep(file, data)
    before = file.read_bytes()
    with server(tmp_path / "db", mine):
        pass
    assert kept(mine).read_bytes() != before
    with server(tmp_path / "later", mine):
        pass


def test_a_server_that_cannot_start_is_an_error_after_the_second_cluster(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(embedded._OPTIONS, "no_such_option", "1")
    mine = tmp_path / "cache"
    mine.mkdir()
    (mine / kept(cache).name).write_bytes(kept(cache).read_bytes())
    with pytest.raises(StoreUnavailable, match="did not start"), server(tmp_path / "db", mine):
        pass


def test_a_disk_that_is_full_at_the_last_file_leaves_no_cluster(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    with tarfile.open(kept(cache)) as archive:
        last = archive.getnames()[-1]

    def open_full(path: Path | str, flags: int, *args: int, **names: int) -> int:
        if path == tmp_path / "data.part" / last:
            return os_open("/dev/full", os.O_WRONLY)
        return os_open(path, flags, *args, **names)

    os_open = os.open
    with monkeypatch.context() as patches:
        patches.setattr(os, "open", open_full)
        assert not cluster.unpack(kept(cache), data, None)
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"] and not list(data.iterdir())
    assert cluster.unpack(kept(cache), data, None)


def test_what_an_interrupted_unpacking_has_left_does_not_matter(cache: Path, tmp_path: Path) -> None:
    data, left = tmp_path / "data", tmp_path / "data.part" / "global"
    data.mkdir()
    left.mkdir(parents=True)
    assert cluster.unpack(kept(cache), data, None)
    assert cluster.is_complete(data) and [entry.name for entry in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_only_files_and_directories_are_unpacked(tmp_path: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("base")
    member.type, member.linkname = kind, "missing"
    assert not cluster.unpack(write_kept(tmp_path, member), tmp_path / "data", None)
    assert not (tmp_path / "data").exists()


def test_a_file_cannot_write_outside_the_cluster(tmp_path: Path) -> None:
    data = tmp_path / "db" / "data"
    data.mkdir(parents=True)
    for name in ("../taken", str(tmp_path / "taken")):
        assert not cluster.unpack(write_kept(tmp_path, tarfile.TarInfo(name)), data, None)
        assert not list(tmp_path.rglob("taken"))


def test_a_folder_that_cannot_be_written_does_not_prevent_a_start(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in the way")
    with server(tmp_path / "db", tmp_path / "cache"):
        pass


@pytest.mark.parametrize("error", [OSError("no room"), KeyboardInterrupt()])
def test_an_interrupted_keep_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    folder, data = tmp_path / "cache", tmp_path / "data"

    def fail(_handle: int) -> None:
        assert list(folder.iterdir()), "the temporary file is there, or nothing is tested"
        raise error

    data.mkdir()
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(KeyboardInterrupt) if isinstance(error, KeyboardInterrupt) else nullcontext():
        cluster.keep(folder / "cluster-1.tar", data)
    assert not list(folder.iterdir())


def test_a_temporary_file_that_cannot_be_removed_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_names: object) -> None:
        raise OSError("read-only")

    (tmp_path / "data").mkdir()
    monkeypatch.setattr(os, "fsync", fail)
    monkeypatch.setattr(Path, "unlink", fail)
    cluster.keep(tmp_path / "cache" / "cluster-1.tar", tmp_path / "data")


def test_a_disk_with_little_room_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(cluster, "_ROOM_BYTES", shutil.disk_usage(tmp_path).total + 1)
    cluster.keep(tmp_path / "cache" / "cluster-1.tar", tmp_path / "data")
    assert not list((tmp_path / "cache").iterdir())


def test_old_files_in_the_cache_are_removed(tmp_path: Path) -> None:
    cache, data = tmp_path / "cache", tmp_path / "data"
    cache.mkdir()
    data.mkdir()
    for name in (".cluster-old", ".cluster-new", "cluster-0.tar"):
        (cache / name).write_bytes(b"")
    hours_ago = time.time() - 2 * 3600
    os.utime(cache / ".cluster-old", (hours_ago, hours_ago))
    cluster.keep(cache / "cluster-1.tar", data)
    assert {file.name for file in cache.iterdir()} == {".cluster-new", "cluster-1.tar"}


def test_an_initdb_that_does_not_end_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "initdb"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr(cluster, "_LIMIT_S", 0.1)
    (tmp_path / "data").mkdir()
    with pytest.raises(StoreUnavailable) as caught:
        cluster.initialise(tmp_path, tmp_path / "data", None, walk=False, variables={"PATH": os.defpath})
    assert "did not end" in (caught.value.hint or "")


def control_file(cache: Path) -> bytes:
    """The content of a file without which no server starts."""
    with tarfile.open(kept(cache)) as archive:
        file = archive.extractfile("global/pg_control")
        assert file is not None
        return file.read()


def write_kept(folder: Path, member: tarfile.TarInfo) -> Path:
    """A file as `keep` writes it, with one member."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(member, io.BytesIO())
    file = folder / "cluster.tar"
    file.write_bytes(content.getvalue() + hashlib.sha256(content.getvalue()).digest())
    return file
