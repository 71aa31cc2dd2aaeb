"""Test archives and tables of runs, and the removal of their folders."""

from __future__ import annotations

import csv
import fcntl
import tarfile
from pathlib import Path

import pyarrow.parquet
import pytest

from orchestrator.errors import LabBusy, UsageError
from orchestrator.results import ResultsFolder, open_bundle, opened, read_rows
from orchestrator.results.bundle import LOCK
from orchestrator.results.export import export, remove

from .written import write_sweep


@pytest.mark.parametrize("name", ["out.tar.gz", "out.tgz", "out.zip"])
def test_an_archive_has_the_folder_without_hidden_files(tmp_path: Path, name: str) -> None:
    folder = write_sweep(tmp_path / "a", {"x": [1, 2]})
    (folder / ".lock").write_text("")
    export(open_bundle(folder), tmp_path / name)
    with opened(tmp_path / name) as bundle:
        assert (bundle.kind, bundle.name) == ("sweep", "a")
        assert [read_rows(run)[0]["seconds"] for run in bundle.runs] == [1, 2]
        assert not (bundle.path / ".lock").exists()
    if name.endswith("gz"):
        with tarfile.open(tmp_path / name) as tar:
            assert {member.uname for member in tar} == {""}


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_has_the_rows_of_all_runs_with_their_values(tmp_path: Path, suffix: str) -> None:
    folder, target = write_sweep(tmp_path / "a", {"x": [1, 2], "y": [3]}), tmp_path / f"out{suffix}"
    export(open_bundle(folder), target)
    if suffix == ".csv":
        with target.open() as file:
            rows = list(csv.DictReader(file))
    else:
        rows = pyarrow.parquet.read_table(target).to_pylist()
    assert [(row["mode"], float(row["seconds"])) for row in rows] == [("x", 1), ("x", 2), ("y", 3)]
    assert list(rows[0])[:3] == ["run", "repetition", "mode"]


def test_a_file_that_exists_or_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "a", {"x": [1]})
    (tmp_path / "out.zip").write_text("mine")
    for name, id in (("out.zip", "export.exists"), ("out.docx", "export.format")):
        with pytest.raises(UsageError) as caught:
            export(open_bundle(folder), tmp_path / name)
        assert caught.value.id == id
    assert (tmp_path / "out.zip").read_text() == "mine"


def test_only_what_nm_has_written_is_removed(tmp_path: Path) -> None:
    mine, link = tmp_path / "mine", tmp_path / "link"
    mine.mkdir()
    (mine / "run.json").write_text('{"private": 1}')
    folder = write_sweep(tmp_path / "a", {"x": [1]})
    link.symlink_to(folder)
    for path in (tmp_path, mine, link, tmp_path / "none"):
        with pytest.raises(UsageError) as caught:
            remove(path)
        assert caught.value.id == "results.none"
    assert remove(folder) == "a"
    assert not folder.exists() and mine.is_dir()


def test_a_run_that_is_being_written_is_not_removed(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path / "r", {"run": "r", "scenario": "s"}, "name: ring\n")
    with pytest.raises(LabBusy) as caught:
        remove(tmp_path / "r")
    assert caught.value.id == "results.busy" and (tmp_path / "r" / "run.json").is_file()
    folder.close()
    assert remove(tmp_path / "r") == "r"


def test_a_run_of_a_sweep_that_is_under_way_is_not_removed(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "a", {"x": [1]})
    run = next(done.parent for done in sweep.glob("*/done.json"))
    (run / "run.json").write_text('{"run": "r", "scenario": "s", "verdict": "pass"}')
    with (sweep / LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(LabBusy) as caught:
            remove(run)
    assert caught.value.id == "sweep.busy" and run.is_dir()
