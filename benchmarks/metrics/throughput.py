"""Measure what metrics cost a path: TCP through two labs that differ in metrics alone, in turn.

Both labs are up all the time; the one that is not measured carries nothing and reports nothing. In every
second round the lab with metrics is measured first.

Throughput varies by more than metrics cost where the machine is shared. What they add is work per second and
not per packet, so it is measured in CPU time as well: that of all processes of both labs while the same small
traffic keeps all counters changing. Flows are counted in both labs, because other commands show them too.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import iperf, labs, testbed
from benchmarks.commands import Background
from benchmarks.figures import Sample
from benchmarks.paths import Path
from benchmarks.proc import process_cpu_seconds

__all__ = ["Load", "Pair", "measure"]

NODES = 3
"""Nodes of each line: two links and one relay."""

UP_S = 120.0
PING_S = 0.1
"""Seconds between two packets of the small traffic: in every report all counters have changed."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A round: both samples."""

    off: Sample
    on: Sample

    @property
    def ratio(self) -> float:
        """Throughput with metrics, as a share of that without them."""
        return self.on.value / self.off.value


@dataclass(frozen=True, slots=True)
class Load:
    """CPU seconds per second of all processes of both labs: hosts, controller and Postgres."""

    off: float
    on: float


def measure(
    rounds: int, seconds: int, load_seconds: int, told: Callable[[str], None]
) -> tuple[list[Pair], Load]:
    """Run the rounds, and measure the CPU time after them.

    Raises:
        NotRunnable: The labs did not start on this machine.
        CommandFailed: A sample could not be taken.
    """
    timing, placement = iperf.Timing(seconds=seconds, warm_up=0), iperf.Placement.pinned()
    found: list[Pair] = []
    with contextlib.ExitStack() as stack:
        running = {
            word: stack.enter_context(labs.lab(_topology(word), timeout=UP_S)) for word in ("false", "true")
        }
        paths = {word: testbed.path_between(lab, 1, NODES, hops=NODES - 1) for word, lab in running.items()}
        for number in range(rounds + 1):
            order = ("false", "true") if number % 2 else ("true", "false")
            samples = {word: iperf.tcp(paths[word], timing, placement) for word in order}
            pair = Pair(samples["false"], samples["true"])
            told(f"round {number}: {pair.off.value:.2f} and {pair.on.value:.2f} Gb/s, {pair.ratio:.3f}")
            if number:  # the first one makes memory and code warm
                found.append(pair)
        load = _load(running, paths, load_seconds)
        told(f"small traffic: {load.off:.3%} of a core without metrics, {load.on:.3%} with them")
    return found, load


def _load(running: dict[str, labs.RunningLab], paths: dict[str, Path], seconds: int) -> Load:
    """Measure both labs at the same time."""
    with contextlib.ExitStack() as stack:
        for path in paths.values():
            ping = ["ping", "-n", "-q", "-i", f"{PING_S:g}", path.receiver.address]
            stack.enter_context(Background(path.sender.argv(*ping)))
        time.sleep(2)  # the first packets, and the first report
        pids = {
            word: [pid for part in lab.processes().values() for pid in part] for word, lab in running.items()
        }
        before = {word: process_cpu_seconds(pids[word]) for word in pids}
        begin = time.monotonic()
        time.sleep(seconds)
        passed = time.monotonic() - begin
        cores = {word: (process_cpu_seconds(pids[word]) - before[word]) / passed for word in pids}
    return Load(cores["false"], cores["true"])


def _topology(enabled: str) -> str:
    return f"{labs.topology('line', n_nodes=NODES)}metrics: {{enabled: {enabled}}}\n"
