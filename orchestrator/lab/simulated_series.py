"""The time series of a run on the simulated network: counters of nodes and links, once a virtual second."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.protocol.messages import LinkSample, NodeSample
from orchestrator.results import ResultsFolder
from orchestrator.results.samples import Samples, points
from orchestrator.results.series import SeriesFile

if TYPE_CHECKING:
    from orchestrator.node.dataplane import Simulation

__all__ = ["SimulatedSeries"]

EVERY_US = 1_000_000
"""Virtual microseconds between two samples, as in a lab."""

LEAST_NS = 20_000_000
"""The shortest interval at the end of a run that is a sample of its own."""


class SimulatedSeries:
    """Writes the series of a run."""

    def __init__(self, folder: ResultsFolder) -> None:
        self._folder = folder
        self._file = SeriesFile(folder.path)
        self._last: Samples = {}
        self._last_ns = 0
        self.next_us = EVERY_US
        """When the next sample is due."""

    def sample(self, simulation: Simulation) -> None:
        """Write what happened since the sample before."""
        now_ns = simulation.now_ns()
        found = _samples(simulation, now_ns)
        before = self._last or {node: NodeSample(0, 0, 0, 0, 0) for node in found}
        known = points(before, found, 1)
        # No processor is simulated, and no program takes part.
        kept = (each for each in known if each.kind != "host" and each.metric != "cpu_share")
        self._file.write(now_ns / 1e9, kept)
        self._last, self._last_ns = found, now_ns
        self.next_us += EVERY_US

    def finish(self, simulation: Simulation) -> None:
        """Write the last sample, and make the Parquet file."""
        if simulation.now_ns() - self._last_ns >= LEAST_NS:
            self.sample(simulation)
        self._file.finish()
        if self._file.trouble and not self._folder.trouble:
            self._folder.trouble = self._file.trouble


def _samples(simulation: Simulation, now_ns: int) -> Samples:
    found = {}
    for node, packets_out, bytes_out, packets_in, bytes_in, links in simulation.counters():
        found[node] = NodeSample(
            time_ms=now_ns // 1_000_000,
            process=0,
            cpu_ms=0,
            shard=0,
            overload_drops=0,
            packets_out=packets_out,
            bytes_out=bytes_out,
            packets_in=packets_in,
            bytes_in=bytes_in,
            links=tuple(
                LinkSample(remote, packets, size, queued, queued_bytes, delay_us, dict(drops))
                for remote, packets, size, queued, queued_bytes, delay_us, drops in links
                if packets or drops or queued
            ),
        )
    return found
