"""Target 16 (zero-copy receive): measure the cost of receiving a message in Python without a copy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks import labs
from benchmarks.labs import topology
from benchmarks.program import Notify
from benchmarks.scale.figures import Figure

__all__ = ["receive_cost"]

_SCENARIO = Path(__file__).resolve().parents[1] / "scenarios" / "receive-cost"
_UP_SECONDS = 120.0
_SIZES = ("64 B", "1400 B")


def receive_cost(notify: Notify) -> Iterator[Figure]:
    """Measure the cost of a message in a batch of 256, in microseconds.

    The target is graded by the time to take the batch and to open a memoryview of each message; taking the
    batch alone is shown too, but a program that does only that cannot read the messages.
    """
    with labs.lab(topology("line", n_nodes=2), timeout=_UP_SECONDS) as running:
        for size in _SIZES:
            report = running.scenario(_SCENARIO, f"size={size}")
            found = next(row for row in report["rows"] if row["role"] == "receiver")
            notify(f"  {size}: {found['receive_and_view_us']} µs a message")
            how = f"median of {found['batches']} batches of 256"
            target = 16 if size == _SIZES[0] else None
            title = f"receive in Python, {size}, "
            yield Figure(title + "batch only", found["receive_us"], "µs", how)
            yield Figure(title + "each viewed", found["receive_and_view_us"], "µs", how, target)
        running.down()
