"""Measure the memory and CPU time of an idle lab.

Kernel memory is what slabs, stacks, page tables, per-CPU data and vmalloc grew by; user memory is the PSS of
the host process that carries the nodes. Memory of controller and database is listed separately, because it
hardly grows with the number of nodes. The kernel frees namespaces in the background for seconds after they
are gone, so every reading waits until the values are stable.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks import proc

__all__ = ["Footprint", "MemoryReading", "footprint", "idle_cpu", "read_settled"]

_STABLE_BYTES = 4 << 20
_STABLE_READINGS = 4
_INTERVAL = 0.5


@dataclass(frozen=True, slots=True)
class MemoryReading:
    """One reading of the machine's memory, in bytes."""

    available: int
    kernel: int
    settled: bool
    waited_seconds: float


@dataclass(frozen=True, slots=True)
class Footprint:
    """Memory of a lab, in bytes."""

    nodes: int
    kernel: int
    host: int
    others: Mapping[str, int]
    all_in: int

    @property
    def per_node(self) -> float:
        """Return kernel memory and that of the host process, in megabytes per node."""
        return (self.kernel + self.host) / self.nodes / 1e6

    @property
    def all_in_per_node(self) -> float:
        """Return what MemAvailable fell by, controller and database included, in megabytes per node."""
        return self.all_in / self.nodes / 1e6


def read_settled(
    *,
    limit: float = 60.0,
    read: Callable[[], dict[str, int]] = proc.memory,
    sleep: Callable[[float], None] = time.sleep,
) -> MemoryReading:
    """Read memory once kernel memory is stable, or at the latest after `limit` seconds."""
    history: list[int] = []
    waited = 0.0
    while True:
        found = read()
        history.append(proc.kernel_bytes(found))
        recent = history[-_STABLE_READINGS:]
        settled = len(recent) == _STABLE_READINGS and max(recent) - min(recent) <= _STABLE_BYTES
        if settled or waited >= limit:
            return MemoryReading(found["MemAvailable"], history[-1], settled, waited)
        sleep(_INTERVAL)
        waited += _INTERVAL


def footprint(
    nodes: int, before: MemoryReading, after: MemoryReading, parts: Mapping[str, Sequence[int]]
) -> Footprint:
    """Return what a lab of `nodes` nodes takes, from readings around its start and its processes by part."""
    sizes = {part: sum(map(proc.proportional_set_size, pids)) for part, pids in parts.items()}
    host = sizes.pop("host", 0)
    return Footprint(nodes, after.kernel - before.kernel, host, sizes, before.available - after.available)


def idle_cpu(
    parts: Mapping[str, Sequence[int]], seconds: float, *, sleep: Callable[[float], None] = time.sleep
) -> dict[str, float]:
    """Return the CPU time that each part uses while the lab is idle, in percent of a core."""
    begin = time.monotonic()
    first = {part: proc.process_cpu_seconds(pids) for part, pids in parts.items()}
    sleep(seconds)
    wall = time.monotonic() - begin
    return {part: 100 * (proc.process_cpu_seconds(parts[part]) - used) / wall for part, used in first.items()}
