"""Test the recording of a run's time series."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from orchestrator.clock import SystemClock
from orchestrator.errors import NmError
from orchestrator.lab import series
from orchestrator.lab.series import SeriesRecorder
from orchestrator.protocol.messages import LinkSample, NodeSample
from orchestrator.results import ResultsFolder
from orchestrator.results.samples import Samples
from orchestrator.results.series import read_series
from orchestrator.transport import Connection
from tests.lab.conftest import MakeLab


class Lab:
    """A lab whose nodes have sent a packet more at each sample, and whose controller may be away."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.samples = 0
        self.dialled = 0
        self.away: list[Exception] = []
        self.sampled = asyncio.Event()
        monkeypatch.setattr(series, "dial", self._dial)
        monkeypatch.setattr(series, "_sample", self._sample)
        monkeypatch.setattr(series, "EVERY_S", 0.01)

    async def _dial(self, *_: Any) -> Any:
        self.dialled += 1
        return self

    async def _sample(self, _connection: Connection) -> Samples:
        self.samples += 1
        if self.away:
            raise self.away.pop()
        self.sampled.set()
        links = (LinkSample(2, self.samples, 1_000 * self.samples),)
        return {1: NodeSample(100 * self.samples, 7, 0, 0, 0, links=links)}

    async def close(self, grace: float = 0.0) -> None:
        pass

    async def until(self, samples: int) -> None:
        """Wait for some more samples."""
        async with asyncio.timeout(10):
            for _ in range(samples):
                self.sampled.clear()
                await self.sampled.wait()


@pytest.fixture
def recorder(make_lab: MakeLab, tmp_path: Path) -> SeriesRecorder:
    folder = ResultsFolder(tmp_path / "run", {}, "name: ring\n")
    return SeriesRecorder(*make_lab(), folder, SystemClock().wall())


def values(folder: Path, metric: str) -> list[float]:
    table = read_series(folder)
    assert table is not None
    return [row["value"] for row in table.to_pylist() if row["metric"] == metric]


async def test_every_sample_is_on_disk_at_once_and_the_end_makes_parquet(
    recorder: SeriesRecorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab(monkeypatch)
    await recorder.begin(cast(Connection, lab))
    await lab.until(4)
    assert len(values(tmp_path / "run", "packets")) >= 3
    await recorder.end()
    assert (tmp_path / "run" / "series.parquet").is_file() and lab.dialled == 1
    packets = values(tmp_path / "run", "packets")
    assert set(packets) == {1} and len(packets) == lab.samples - 1
    assert set(values(tmp_path / "run", "throughput")) == {80_000}
    assert len(values(tmp_path / "run", "memory_used")) == len(packets)


@pytest.mark.parametrize("error", [ZeroDivisionError("division by zero"), NmError("it is away")])
async def test_a_sample_that_cannot_be_had_is_part_of_the_next(
    recorder: SeriesRecorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    lab = Lab(monkeypatch)
    await recorder.begin(cast(Connection, lab))
    lab.away = [error]
    await lab.until(3)
    await recorder.end()
    packets = values(tmp_path / "run", "packets")
    assert packets.count(2) == 1 and set(packets) == {1, 2} and sum(packets) == lab.samples - 1
    assert lab.dialled == 2  # a connection that failed is not used again


async def test_a_run_that_is_interrupted_leaves_what_was_known(
    recorder: SeriesRecorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab(monkeypatch)
    await recorder.begin(cast(Connection, lab))
    await lab.until(2)
    await recorder.abandon()
    assert not (tmp_path / "run" / "series.parquet").exists()
    assert len(values(tmp_path / "run", "packets")) >= 1
    samples = lab.samples
    await asyncio.sleep(0.05)
    assert lab.samples == samples


async def test_a_run_that_did_not_begin_has_no_series(recorder: SeriesRecorder, tmp_path: Path) -> None:
    await recorder.end()
    await recorder.abandon()
    assert read_series(tmp_path / "run") is None


async def test_a_folder_that_cannot_be_written_is_part_of_what_the_run_lacks(
    make_lab: MakeLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab(monkeypatch)
    folder = ResultsFolder(tmp_path / "run", {}, "name: ring\n")
    (tmp_path / "run" / "series.csv").symlink_to("/dev/full")
    recorder = SeriesRecorder(*make_lab(), folder, SystemClock().wall())
    await recorder.begin(cast(Connection, lab))
    await lab.until(2)
    await recorder.end()
    assert "No space left on device" in folder.trouble
