"""Targets 10 to 13 and 15: start, idle and stop a native lab of many nodes."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from benchmarks import labs
from benchmarks.errors import BenchmarkError
from benchmarks.labs import RunningLab, topology
from benchmarks.path_checks import Check
from benchmarks.proc import process_cpu_seconds
from benchmarks.program import Notify
from benchmarks.scale.figures import Figure
from benchmarks.scale.footprint import Footprint, footprint, idle_cpu, read_settled

__all__ = ["many_nodes", "ping_targets", "start_times"]

_UP_SECONDS = 300.0
_FREE_SECONDS = 90.0
_MOST_HOPS = 60


def start_times(nodes: int, repeats: int, checks: list[Check], notify: Notify) -> Iterator[Figure]:
    """Measure `nm up` and `nm down` of a ring, several times."""
    ups: list[float] = []
    downs: list[float] = []
    for _ in range(repeats):
        with labs.lab(topology("ring", n_nodes=nodes), timeout=_UP_SECONDS) as running:
            checks.append(_reachable(running, nodes))
            ups.append(running.up_seconds)
            downs.append(running.down())
        notify(f"  ring of {nodes}: up {ups[-1]:.2f} s, down {downs[-1]:.2f} s")
    how = f"median of {repeats}, program start to end"
    target = 11 if nodes == 100 else None
    yield Figure(f"`nm up`, native, ring of {nodes}", median(ups), "s", how, target, tuple(ups))
    yield Figure(f"`nm down`, native, ring of {nodes}", median(downs), "s", how, None, tuple(downs))


def many_nodes(nodes: int, idle_seconds: float, checks: list[Check], notify: Notify) -> Iterator[Figure]:
    """Measure one large ring: start, memory, idle CPU, stop, and when the kernel has freed everything."""
    before = read_settled(limit=_FREE_SECONDS)
    with labs.lab(topology("ring", n_nodes=nodes), timeout=_UP_SECONDS) as running:
        notify(f"  ring of {nodes}: up {running.up_seconds:.2f} s")
        spent = process_cpu_seconds(running.processes()["controller"])
        checks.append(_reachable(running, nodes))
        taken = footprint(nodes, before, read_settled(limit=_FREE_SECONDS), running.processes())
        cpu = idle_cpu(running.processes(), idle_seconds)
        notify(f"  {taken.per_node:.3f} MB per node, {sum(cpu.values()):.2f} % of a core when idle")
        down = running.down()
    after = read_settled(limit=_FREE_SECONDS)
    notify(f"  down {down:.2f} s, kernel memory settled after {after.waited_seconds:.0f} s more")
    large = nodes == 1000
    once = "one run, program start to end"
    yield Figure(f"`nm up`, native, ring of {nodes:,}", running.up_seconds, "s", once, 12 if large else None)
    yield Figure(f"`nm down`, native, ring of {nodes:,}", down, "s", once, 13 if large else None)
    yield from _memory_figures(taken, large=large)
    yield from _controller_figures(taken, spent)
    parts = ", ".join(f"{part} {share:.2f}" for part, share in sorted(cpu.items()))
    how = f"over {idle_seconds:g} s, in percent: {parts}"
    yield Figure(f"idle CPU, {nodes:,} nodes", sum(cpu.values()), "% of a core", how, 15 if large else None)
    left = (before.available - after.available) / 1e6
    waited = f"kernel memory was stable {after.waited_seconds:.0f} s after `nm down`"
    yield Figure(f"memory not returned after {nodes:,} nodes", left, "MB", waited)


def ping_targets(nodes: int) -> list[int]:
    """Return the nodes of a ring to ping from node 1: next to it, far, and farthest, both ways around.

    A reply starts with the kernel's default TTL of 64, so in a large ring the farthest is not the
    opposite node.
    """
    far = min(_MOST_HOPS, nodes // 2)
    steps = {1, max(1, far // 2), far}
    return sorted({1 + step for step in steps} | {1 + nodes - step for step in steps})


def _memory_figures(taken: Footprint, *, large: bool) -> Iterator[Figure]:
    kernel, host = (share / taken.nodes / 1e6 for share in (taken.kernel, taken.host))
    how = f"kernel {kernel:.3f} + host process {host:.3f}, {taken.nodes:,} nodes"
    yield Figure("memory per node", taken.per_node, "MB", how, 10 if large else None)
    others = ", ".join(f"{part} {size / 1e6:.0f} MB" for part, size in sorted(taken.others.items()))
    how = f"by MemAvailable; the lab's other parts take {others}"
    yield Figure("memory per node, everything included", taken.all_in_per_node, "MB", how)


def _controller_figures(taken: Footprint, cpu_seconds: float) -> Iterator[Figure]:
    """Return what the controller costs per node, its own start included."""
    how = f"{cpu_seconds:.2f} s for {taken.nodes:,} nodes, from its start until all are ready"
    yield Figure("controller, CPU time per node", 1000 * cpu_seconds / taken.nodes, "ms", how)
    memory = taken.others.get("controller", 0)
    how = f"{memory / 1e6:.0f} MB for {taken.nodes:,} nodes"
    yield Figure("controller, memory per node", memory / taken.nodes / 1e6, "MB", how)


def _reachable(running: RunningLab, nodes: int) -> Check:
    """Ping from the first node to some of the others, both ways around: ready must mean ready."""
    targets = ping_targets(nodes)
    silent = []
    for target in targets:
        try:
            answer = running.execute(
                1, "ping", "-n", "-c", "1", "-W", "2", running.address(target), timeout=30
            )
            if answer.exit_code != 0:
                silent.append(target)
        except BenchmarkError:
            silent.append(target)
    seen = f"node 1 reaches {', '.join(map(str, targets))}" if not silent else f"no answer from {silent}"
    return Check(f"ring of {nodes:,}", "ready means reachable", not silent, seen)
