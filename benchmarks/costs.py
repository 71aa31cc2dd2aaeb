"""Profile the packet path: `perf` on the threads of a path's relays during a stream.

A symbol belongs to the first kind with a matching pattern. Samples come from the CPU clock, because virtual
machines often have no hardware counters; time with interrupts disabled is then attributed to the function
that enables them again, which is why wake-ups of other CPUs appear under task switches.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch

from benchmarks.commands import Background, require, run
from benchmarks.errors import BenchmarkError
from benchmarks.paths import Path
from benchmarks.proc import thread_ids

__all__ = ["KINDS", "USER_SPACE", "Cost", "parse_report", "profile", "sort_costs"]

USER_SPACE = "user space"
"""All user-space symbols: nm's code, the runtime's and the C library's."""

KINDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("copying from a packet's buffer into the device", ("_copy_from_iter*", "copy_page_from_iter*")),
    ("copying from the device into a packet's buffer", ("_copy_to_iter*", "simple_copy_to_iter")),
    (
        "task switches and wake-ups",
        (
            *("finish_task_switch*", "schedule*", "__schedule*", "*wake*", "ttwu*", "enqueue_*", "dequeue_*"),
            *("*pick_*", "update_curr*", "*_raw_spin_unlock_irqrestore", "*switch_to*", "*slowpath"),
        ),
    ),
    ("softirqs", ("handle_softirqs", "*do_softirq*", "__local_bh_enable_ip", "net_rx_action")),
    (
        "packet buffer allocation",
        ("*alloc*", "*free*", "*slab*", "get_page*", "kmem*", "skb_release*", "consume_skb"),
    ),
    ("TCP, UDP and IP", ("tcp_*", "__tcp_*", "*udp*", "ip_*", "*inet_*", "*netif_*", "sock_def*", "skb_*")),
    (
        "system calls and their checks",
        (
            *("do_syscall*", "entry_*", "*check_*", "*vfs_*", "ksys_*", "fdget*", "fput*", "rw_verify*"),
            *("security_*", "__virt_addr_valid", "tun_*", "*_iter*", "*poll*"),
        ),
    ),
)
"""Kinds of cost, each with patterns of kernel symbols; the first that matches counts."""

_OTHER = "the rest of the kernel"
_HERTZ = 1999  # not a round number, so that sampling does not coincide with periodic work
_LINE = re.compile(r"^\s*([\d.]+)%\s+\[(.)\]\s+(\S+)")
_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Cost:
    """A kind of cost with its share of the samples, from 0 to 1, and its largest symbols."""

    kind: str
    share: float
    symbols: tuple[str, ...]


def profile(path: Path, work: Callable[[], object]) -> list[Cost]:
    """Return where the time of a path's relays goes while `work` runs, largest first.

    Raises:
        NotRunnable: perf is not installed.
        BenchmarkError: perf is not permitted (kernel.perf_event_paranoid), or took no samples.
    """
    require("perf", package="linux-perf")
    threads = ",".join(str(thread) for pid in path.relays() for thread in thread_ids(pid))
    with tempfile.TemporaryDirectory(prefix="nmbench-perf-") as folder:
        file = f"{folder}/data"
        record = ["perf", "record", "--quiet", "--event", "cpu-clock", "--freq", str(_HERTZ)]
        with Background([*record, "--output", file, "--tid", threads]):
            work()  # leaving the block sends SIGTERM to perf, which then writes its file
        report = ["perf", "report", "--no-children", "--sort", "sym", "--input", file]
        return sort_costs(parse_report(run(report, timeout=_SECONDS).stdout))


def parse_report(text: str) -> list[tuple[float, bool, str]]:
    """Return share, whether it is a kernel symbol, and name of every symbol in the text of `perf report`."""
    found = [_LINE.match(line) for line in text.splitlines()]
    return [(float(m[1]) / 100, m[2] == "k", m[3]) for m in found if m is not None]


def sort_costs(symbols: Sequence[tuple[float, bool, str]]) -> list[Cost]:
    """Add symbols up by kind, largest first.

    Raises:
        BenchmarkError: There are no samples.
    """
    if not symbols:
        raise BenchmarkError("perf took no samples of the relays")
    kinds: dict[str, list[tuple[float, str]]] = {}
    for share, kernel, name in symbols:
        kinds.setdefault(_kind(name) if kernel else USER_SPACE, []).append((share, name))
    costs = [
        Cost(
            kind, sum(share for share, _ in parts), tuple(name for _, name in sorted(parts, reverse=True)[:3])
        )
        for kind, parts in kinds.items()
    ]
    return sorted(costs, key=lambda cost: -cost.share)


def _kind(symbol: str) -> str:
    for kind, patterns in KINDS:
        if any(fnmatch(symbol, pattern) for pattern in patterns):
            return kind
    return _OTHER
