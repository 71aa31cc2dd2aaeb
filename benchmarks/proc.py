"""Read CPU time, memory and process relations from `/proc`.

All functions read `/proc` and nothing else. CPU time of the whole machine is used for throughput, because
most of that work runs in softirq context and is not charged to a process; CPU time of single processes is
used for idle cost.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from orchestrator import procfs

__all__ = [
    "KERNEL_FIELDS",
    "CpuMeter",
    "descendants",
    "kernel_bytes",
    "memory",
    "parse_busy_ticks",
    "parse_meminfo",
    "process_cpu_seconds",
    "processes_with_environment",
    "proportional_set_size",
    "thread_ids",
]

_TICKS = os.sysconf("SC_CLK_TCK")

KERNEL_FIELDS = ("Slab", "KernelStack", "PageTables", "Percpu", "VmallocUsed")
"""Fields of /proc/meminfo whose sum estimates the kernel memory of the whole machine."""


@dataclass(slots=True)
class CpuMeter:
    """Busy time of all cores between `start` and `read`."""

    busy: float
    wall: float

    @classmethod
    def start(cls) -> CpuMeter:
        """Begin to measure now."""
        return cls(_busy_seconds(), time.monotonic())

    def read(self) -> tuple[float, float]:
        """Return busy CPU seconds and wall seconds since the start."""
        return _busy_seconds() - self.busy, time.monotonic() - self.wall


def _busy_seconds() -> float:
    return parse_busy_ticks(Path("/proc/stat").read_text(encoding="ascii")) / _TICKS


def parse_busy_ticks(stat: str) -> int:
    """Return user, nice, system, irq and softirq ticks of all cores from the text of /proc/stat.

    The user field includes time of virtual CPUs; idle, iowait and steal are not counted.
    """
    fields = [int(word) for word in stat.splitlines()[0].split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq = fields[:7]
    return user + nice + system + irq + softirq


def parse_meminfo(text: str) -> dict[str, int]:
    """Return the fields of /proc/meminfo in bytes; counts without a unit are left out."""
    found = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if len(words) == 2 and words[1] == "kB":
            found[name] = int(words[0]) * 1024
    return found


def memory() -> dict[str, int]:
    """Return /proc/meminfo in bytes."""
    return parse_meminfo(Path("/proc/meminfo").read_text(encoding="ascii"))


def kernel_bytes(meminfo: dict[str, int]) -> int:
    """Return the sum of `KERNEL_FIELDS`: slabs, stacks, page tables, per-CPU data, vmalloc."""
    return sum(meminfo.get(name, 0) for name in KERNEL_FIELDS)


def proportional_set_size(pid: int) -> int:
    """Return the PSS of a process in bytes, or 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    return parse_meminfo(text).get("Pss", 0)


def process_cpu_seconds(pids: Iterable[int]) -> float:
    """Return user and system time of the processes, in seconds; a process that is gone counts as 0."""
    return sum(stat.cpu for pid in pids if (stat := procfs.stat(pid))) / _TICKS


def thread_ids(pid: int) -> list[int]:
    """Return the thread ids of a process; none when it is gone."""
    try:
        return sorted(int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []


def processes_with_environment(name: str, value: str) -> list[int]:
    """Return the processes that were started with `name=value` in their environment."""
    return [pid for pid in procfs.pids() if procfs.environment(pid, f"{name}={value}").get(name) == value]


def descendants(pid: int) -> list[int]:
    """Return all descendants of a process: children, grandchildren and so on."""
    children: dict[int, list[int]] = {}
    for candidate in procfs.pids():
        if stat := procfs.stat(candidate):
            children.setdefault(stat.parent, []).append(candidate)
    found: list[int] = []
    frontier = [pid]
    while frontier:
        frontier = [child for parent in frontier for child in children.get(parent, [])]
        found += frontier
    return sorted(found)
