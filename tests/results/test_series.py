"""Test the file of a run's time series."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.results.samples import Point
from orchestrator.results.series import COLUMNS, SeriesFile, read_series

POINTS = [Point("link", "1->2", "bytes", 10**15), Point("host", "host", "cpu_share", 0.123456789)]


def rows(folder: Path) -> list[tuple[object, ...]]:
    table = read_series(folder)
    assert table is not None and tuple(table.column_names) == COLUMNS
    return [tuple(row.values()) for row in table.to_pylist()]


def test_a_run_that_ended_leaves_parquet_alone(tmp_path: Path) -> None:
    file = SeriesFile(tmp_path)
    file.write(1.0, POINTS)
    file.write(2.0004, POINTS[:1])
    assert len((tmp_path / "series.csv").read_text().splitlines()) == 4  # on disk before the end
    file.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["series.parquet"] and not file.trouble
    assert rows(tmp_path) == [
        (1.0, "link", "1->2", "bytes", 1e15),
        (1.0, "host", "host", "cpu_share", 0.123457),
        (2.0, "link", "1->2", "bytes", 1e15),
    ]


def test_what_a_killed_run_left_can_be_read_without_its_last_line(tmp_path: Path) -> None:
    file = SeriesFile(tmp_path)
    file.write(1.0, POINTS)
    file.close()
    with (tmp_path / "series.csv").open("a") as csv:
        csv.write("2.000,link,1->2,by")
    assert len(rows(tmp_path)) == 2


def test_a_run_that_measured_nothing_has_empty_series(tmp_path: Path) -> None:
    SeriesFile(tmp_path).finish()
    assert rows(tmp_path) == []


def test_a_name_with_separators_and_quotes_comes_back(tmp_path: Path) -> None:
    file = SeriesFile(tmp_path)
    file.write(1.0, [Point("flow", 'a,"b"\n<c>', "bytes", 1)])
    file.finish()
    assert [row[2] for row in rows(tmp_path)] == ['a,"b"\n<c>']


def test_a_disk_that_is_full_is_said_once_and_ends_nothing() -> None:
    file = SeriesFile(Path("/dev/full").parent / "nothing-here")
    assert "cannot write results" in file.trouble
    file.write(1.0, POINTS)
    file.close()
    file.finish()


def test_a_write_that_fails_is_said(tmp_path: Path) -> None:
    (tmp_path / "series.csv").symlink_to("/dev/full")
    file = SeriesFile(tmp_path)
    file.write(1.0, POINTS)
    assert "No space left on device" in file.trouble
    file.finish()
    assert not (tmp_path / "series.parquet").exists()


def test_a_folder_without_series_has_none(tmp_path: Path) -> None:
    assert read_series(tmp_path) is None


@pytest.mark.parametrize("nodes", [100])
def test_series_of_many_nodes_are_small(tmp_path: Path, nodes: int) -> None:
    """A minute of a ring, each second, is below a megabyte."""
    file = SeriesFile(tmp_path)
    metrics = ("packets", "bytes", "throughput", "queue_packets", "queue_bytes", "delay")
    for second in range(60):
        file.write(
            second + 0.01,
            (
                Point("link", f"{a}->{b}", metric, (a * 7919 + b * second * 31) % 10**6)
                for a in range(1, nodes + 1)
                for b in (a % nodes + 1, (a - 2) % nodes + 1)
                for metric in metrics
            ),
        )
    file.finish()
    assert (tmp_path / "series.parquet").stat().st_size < 1_000_000
