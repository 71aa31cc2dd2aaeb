"""Test errors of files that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import Problem
from orchestrator.source import Problems, files, read_text


def test_a_missing_file_is_compared_with_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "ring.yaml").touch()
    problem = _problem(tmp_path / "rng.yaml", "topologies/rng.yaml")
    assert problem.id == "file.missing"
    assert problem.hint == "did you mean `topologies/ring.yaml`?"


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    problem = _problem(tmp_path / "no" / "ring.yaml", "no/ring.yaml")
    assert problem.hint is not None
    assert "does not exist either" in problem.hint


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert _problem(tmp_path, "labs").id == "file.is-folder"


def test_what_is_not_utf8_is_refused_at_its_byte(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(b"a: 1\nb: \xff\n")
    problem = _problem(path, "f.yaml")
    assert str(problem.place) == "f.yaml:2:4"
    assert problem.message == "byte 0xff is not UTF-8 text"


def test_a_huge_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LARGEST_FILE", 2**20)
    path = tmp_path / "f.yaml"
    with path.open("wb") as stream:
        stream.truncate(2**20 + 1)
    assert _problem(path, "f.yaml").message == "the file is larger than 1 MiB"


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_text(path, "f.yaml", Problems("test")) == "a: 1\n"


def _problem(path: Path, shown: str) -> Problem:
    problems = Problems("test")
    assert read_text(path, shown, problems) is None
    (problem,) = problems
    return problem
