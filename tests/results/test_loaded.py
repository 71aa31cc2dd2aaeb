"""Test how the folders of runs are found and read."""

from __future__ import annotations

import builtins
import json
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.clock import ManualClock
from orchestrator.errors import HostNotFit, UsageError
from orchestrator.results import ResultsFolder, RunOutcome, find_bundles, load, open_bundle, opened, read_rows
from orchestrator.results import bundle as bundles
from orchestrator.results.bundle import FORMAT
from orchestrator.results.export import export


def write_run(folder: Path, *rows: dict[str, Any], end: bool = True, **document: Any) -> Path:
    """Write the folder of a run that reported some rows."""
    head = {"format": FORMAT, "run": folder.name, "scenario": "s", **document}
    kept = ResultsFolder(folder, head, "name: ring\n", ManualClock())
    for row in rows:
        kept.row(1, "a", row)
    if end:
        kept.write_last_tables()
        kept.finish(RunOutcome(folder.name, "s", "l", "native", 7, "pass", str(folder), details=head))
    kept.close()
    return folder


def test_rows_are_a_table_of_pandas_in_one_call(tmp_path: Path) -> None:
    frame = load(write_run(tmp_path / "r1", {"n": 1, "ok": True}, {"n": 2, "ok": False})).rows
    assert frame["n"].sum() == 3 and str(frame["n"].dtype) == "int64"
    assert list(frame.columns) == ["node", "role", "n", "ok"]


def test_rows_of_a_run_that_was_killed_come_from_its_events(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r1", {"n": 1}, {"n": 2}, end=False)
    with (folder / "events.jsonl").open("a") as file:
        file.write('{"kind": "report", "da')
    assert [row["n"] for row in read_rows(open_bundle(folder))] == [1, 2]
    assert list(load(folder).rows["n"]) == [1, 2]


def test_swept_values_are_numbers_where_all_of_a_key_are(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    values = [("1", "0.5", "1%"), ("10", "2", "x")]
    axes = [
        {"key": key, "values": list(each)} for key, each in zip("abc", zip(*values, strict=True), strict=True)
    ]
    for number, each in enumerate(values, 1):
        run = write_run(folder / f"c{number:02d}-r1", {"n": number})
        part = {"combination": number, "repetition": 1, "values": dict(zip("abc", each, strict=True))}
        (run / "done.json").write_text(json.dumps(part))
    (folder / "sweep.json").write_text(json.dumps({"format": FORMAT, "sweep": "s", "axes": axes}))
    frame = load(folder).rows
    assert frame[["a", "b", "c"]].to_dict("list") == {"a": [1, 10], "b": [0.5, 2], "c": ["1%", "x"]}
    assert list(frame.columns[:5]) == ["run", "repetition", "a", "b", "c"]
    assert "<th>runs</th>" in load(folder)._repr_html_()


def test_series_that_are_not_there_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        _ = load(write_run(tmp_path / "r1")).series
    assert caught.value.id == "results.no-series"


def test_without_pandas_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = load(write_run(tmp_path / "r1", {"n": 1}))
    real = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(HostNotFit) as caught:
        _ = results.rows
    assert caught.value.id == "pandas.missing" and "nm-testbed[notebook]" in str(caught.value.hint)


def test_a_run_is_shown_in_a_notebook_with_every_text_escaped(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r1", {"text": "<script>alert(1)</script>"}, reason="<b>")
    html = load(folder)._repr_html_()
    assert "<script>" not in html and "&lt;script&gt;" in html and ">pass</b> r1" in html


@pytest.mark.parametrize(
    ("name", "content", "id"),
    [
        (None, "", "results.none"),
        ("run.json", "{", "results.damaged"),
        ("run.json", "[]", "results.damaged"),
        ("run.json", json.dumps({"format": FORMAT + 1, "versions": {"nm": "9.0"}}), "results.version"),
        ("sweep.json", json.dumps({"format": "new"}), "results.version"),
    ],
)
def test_a_folder_that_cannot_be_read_says_why(
    tmp_path: Path, name: str | None, content: str, id: str
) -> None:
    if name:
        (tmp_path / name).write_text(content)
    with pytest.raises(UsageError) as caught:
        open_bundle(tmp_path)
    assert caught.value.id == id


def test_runs_are_found_below_a_folder_oldest_first_and_damaged_ones_left_out(tmp_path: Path) -> None:
    write_run(tmp_path / "b", started="2026-01-01")
    write_run(tmp_path / "deep" / "a", started="2026-01-02")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "run.json").write_text("")
    assert [each.name for each in find_bundles(tmp_path)] == ["b", "a"]
    assert find_bundles(tmp_path / "none") == []


@pytest.mark.parametrize("suffix", [".tar.gz", ".zip"])
def test_an_archive_is_read_as_the_folder_in_it(tmp_path: Path, suffix: str) -> None:
    folder, archive = write_run(tmp_path / "r1", {"n": 1}), tmp_path / f"bundle{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as packed:
            for file in folder.rglob("*"):
                packed.write(file, file.relative_to(tmp_path))
    else:
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(folder, "r1")
    with opened(archive) as bundle:
        assert bundle.name == "r1" and read_rows(bundle) == [{"node": 1, "role": "a", "n": 1}]


def test_a_file_that_is_no_archive_is_an_error(tmp_path: Path) -> None:
    archive = tmp_path / "bundle.tar.gz"
    archive.write_text("no archive")
    with pytest.raises(UsageError) as caught, opened(archive):
        pass
    assert caught.value.id == "results.damaged"


@pytest.mark.parametrize(
    ("offset", "value"),
    [(6, 1), (8, 99), (None, 0xFF)],
    ids=["encrypted", "compression that is not known", "damaged data"],
)
def test_an_archive_that_cannot_be_unpacked_is_an_error(
    tmp_path: Path, offset: int | None, value: int
) -> None:
    archive = tmp_path / "bundle.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("r1/run.json", "{}" * 1000)
    data = bytearray(archive.read_bytes())
    if offset is None:
        data[30 + len("r1/run.json")] = value  # where the compressed data begins
    else:  # the same field of the local header and of the directory
        data[offset] = data[data.index(b"PK\x01\x02") + offset + 2] = value
    archive.write_bytes(data)
    with pytest.raises(UsageError) as caught, opened(archive):
        pass
    assert caught.value.id == "results.damaged"


@pytest.mark.parametrize("suffix", [".tar.gz", ".zip"])
def test_an_archive_that_is_too_large_is_refused(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, archive = write_run(tmp_path / "r1", {"n": 1}), tmp_path / f"bundle{suffix}"
    (folder / "large").write_bytes(bytes(100_000))
    with opened(folder) as bundle:
        export(bundle, archive)
    monkeypatch.setattr(bundles, "MOST_UNPACKED", 100_000)
    with pytest.raises(UsageError) as caught, opened(archive):
        pass
    assert caught.value.id == "results.too-large"
    monkeypatch.undo()
    monkeypatch.setattr(bundles.shutil, "disk_usage", lambda _: SimpleNamespace(free=100_000))
    with pytest.raises(HostNotFit, match="there is not enough disk space to unpack") as full, opened(archive):
        pass
    assert full.value.id == "results.disk-full"


def test_a_member_outside_of_an_archive_is_not_written(tmp_path: Path) -> None:
    archive, inside = tmp_path / "bundle.tar.gz", tmp_path / "x"
    inside.write_text("x")
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(inside, "../../outside")
    with pytest.raises(UsageError) as caught, opened(archive):
        pass
    assert caught.value.id == "results.damaged"
