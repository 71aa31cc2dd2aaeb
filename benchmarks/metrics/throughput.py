"""Measure what metrics cost a path: TCP through two labs that differ in metrics alone, in turn.

Both labs are up all the time; the one that is not measured carries nothing and reports nothing. In every
second round the lab with metrics is measured first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import iperf, labs, testbed
from benchmarks.figures import Sample

__all__ = ["Pair", "measure"]

NODES = 3
"""Nodes of each line: two links and one relay."""

UP_S = 120.0


@dataclass(frozen=True, slots=True)
class Pair:
    """A round: both samples."""

    off: Sample
    on: Sample

    @property
    def ratio(self) -> float:
        """Throughput with metrics, as a share of that without them."""
        return self.on.value / self.off.value


def measure(rounds: int, seconds: int, told: Callable[[str], None]) -> list[Pair]:
    """Run the rounds.

    Raises:
        NotRunnable: The labs did not start on this machine.
        CommandFailed: A sample could not be taken.
    """
    timing, placement = iperf.Timing(seconds=seconds, warm_up=0), iperf.Placement.pinned()
    found: list[Pair] = []
    with contextlib.ExitStack() as stack:
        paths = {
            word: testbed.path_between(
                stack.enter_context(labs.lab(_topology(word), timeout=UP_S)), 1, NODES, hops=NODES - 1
            )
            for word in ("false", "true")
        }
        for number in range(rounds + 1):
            order = ("false", "true") if number % 2 else ("true", "false")
            samples = {word: iperf.tcp(paths[word], timing, placement) for word in order}
            pair = Pair(samples["false"], samples["true"])
            told(f"round {number}: {pair.off.value:.2f} and {pair.on.value:.2f} Gb/s, {pair.ratio:.3f}")
            if number:  # the first one makes memory and code warm
                found.append(pair)
    return found


def _topology(enabled: str) -> str:
    return f"{labs.topology('line', n_nodes=NODES)}metrics: {{enabled: {enabled}}}\n"
