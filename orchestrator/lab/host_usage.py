"""Read how busy the machine is: CPU and memory, from `/proc`."""

from __future__ import annotations

from pathlib import Path

from orchestrator.results.samples import Point

__all__ = ["HostUsage"]

_STAT, _MEMORY = Path("/proc/stat"), Path("/proc/meminfo")


class HostUsage:
    """Compares the machine's CPU time with that of the call before."""

    def __init__(self) -> None:
        self._before = _cpu_times()

    def points(self) -> list[Point]:
        """Return the share of CPU time that was used since the last call, and the memory in use, in bytes."""
        found: list[Point] = []
        now = _cpu_times()
        if now and self._before and now[1] > self._before[1]:
            idle, total = now[0] - self._before[0], now[1] - self._before[1]
            found.append(Point("host", "host", "machine_cpu_share", 1 - idle / total))
        self._before = now
        if (used := _memory_used()) is not None:
            found.append(Point("host", "host", "memory_used", used))
        return found


def _cpu_times() -> tuple[int, int] | None:
    """Idle and all CPU time of all processors, in clock ticks; None where the kernel does not say."""
    try:
        times = [int(each) for each in _STAT.read_text().split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return None
    return (times[3] + times[4], sum(times)) if len(times) > 4 else None


def _memory_used() -> int | None:
    """Memory that is not available to new programs, in bytes."""
    try:
        lines = dict(line.split(":", 1) for line in _MEMORY.read_text().splitlines() if ":" in line)
        return 1024 * (int(lines["MemTotal"].split()[0]) - int(lines["MemAvailable"].split()[0]))
    except (OSError, ValueError, KeyError):
        return None
