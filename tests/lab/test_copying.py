"""Test that what comes out of a node is written where it belongs, and nowhere else."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from orchestrator.lab.copying import _unpack


def archive(*members: tuple[str, bytes | str]) -> io.BytesIO:
    """Make an archive of files; of a text, a link to it, `=` first for a hard link."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as made:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                member.size = len(content)
                made.addfile(member, io.BytesIO(content))
            else:
                member.type = tarfile.LNKTYPE if content.startswith("=") else tarfile.SYMTYPE
                member.linkname = content.removeprefix("=")
                made.addfile(member)
    stream.seek(0)
    return stream


def test_a_folder_keeps_its_links_under_another_name(tmp_path: Path) -> None:
    stream = archive(("data/a", b"one"), ("data/b", "=data/a"), ("data/l", "a"))
    assert _unpack(stream, tmp_path / "copy", "data") == ""
    copy = tmp_path / "copy"
    assert (copy / "a").read_bytes() == (copy / "b").read_bytes() == (copy / "l").read_bytes() == b"one"
    assert (copy / "a").stat().st_nlink == 2 and (copy / "l").is_symlink()
    assert sorted(tmp_path.iterdir()) == [copy]


def test_no_member_leaves_the_target_and_the_others_are_kept(tmp_path: Path) -> None:
    (tmp_path / ".bashrc").write_text("mine")
    stream = archive(
        ("data/../.bashrc", b"theirs"),
        ("../.bashrc", b"theirs"),
        ("data/out", "../.."),
        ("data/out/.bashrc", b"theirs"),
        ("data/root", "/etc"),
        ("data/good", b"kept"),
    )
    said = _unpack(stream, tmp_path / "data", "data")
    assert "data/../.bashrc" in said and "data/root" in said
    assert (tmp_path / ".bashrc").read_text() == "mine"
    assert (tmp_path / "data" / "good").read_bytes() == b"kept"
    assert not (tmp_path / "data" / "root").exists()


def test_files_are_added_to_a_folder_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "old").write_text("old")
    assert _unpack(archive(("data/new", b"new")), tmp_path / "data", "data") == ""
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"old", "new"}
    assert _unpack(archive(("one", b"1")), tmp_path / "two", "one") == ""
    assert (tmp_path / "two").read_bytes() == b"1"
