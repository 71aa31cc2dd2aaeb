"""Subtract what nodes had measured when a run began from what they had measured when it ended.

Counters that fell began anew: the node was started again in the run. Their values at the end are then what is
known of the run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from orchestrator.protocol.messages import LinkMeasurement, LinkMeasurements

__all__ = ["Snapshot", "cpu_share", "links_since", "overload_since", "since"]

Buckets = tuple[tuple[int, int], ...]
Shard = tuple[int, int]
"""A process and one of its threads."""

_COUNTERS = (
    "packets",
    "offered",
    "changes",
    "draws",
    "busy_ns",
    "busy_bytes",
    "delay_sum_us",
    "delay_squares_us",
    "late_sum_us",
)


@dataclass(frozen=True)
class Snapshot:
    """What nodes measured up to one moment, by node."""

    nodes: Mapping[int, LinkMeasurements] = field(default_factory=dict)

    def links(self) -> Iterator[tuple[int, int, LinkMeasurement]]:
        """Every direction of a link: from, to, measurement."""
        for node, found in sorted(self.nodes.items()):
            for link in found.links:
                yield node, link.remote_node_id, link


def links_since(before: Snapshot, after: Snapshot) -> Iterator[tuple[int, int, LinkMeasurement]]:
    """What links did in between: from, to, measurement. Nodes that are not in both snapshots are left out."""
    known = {(a, b): link for a, b, link in before.links()}
    for a, b, link in after.links():
        if a not in before.nodes:
            continue  # how much of it belongs to this run is not known
        if before.nodes[a].process != after.nodes[a].process:
            yield a, b, _anew(link)
        else:
            yield a, b, since(link, known[a, b]) if (a, b) in known else link


def since(now: LinkMeasurement, old: LinkMeasurement) -> LinkMeasurement:
    """Return the difference of two measurements; of counters that began anew, the values of now."""
    if _fell(now, old):
        return _anew(now)
    return replace(
        now,
        **{name: getattr(now, name) - getattr(old, name) for name in _COUNTERS},
        drops={
            cause: n - old.drops.get(cause, 0)
            for cause, n in now.drops.items()
            if n > old.drops.get(cause, 0)
        },
        delay=_buckets_since(now.delay, old.delay),
        late=_buckets_since(now.late, old.late),
    )


def _anew(link: LinkMeasurement) -> LinkMeasurement:
    """A link whose node was started again, which counts as a change of the link."""
    return replace(link, changes=link.changes + 1)


def _fell(now: LinkMeasurement, old: LinkMeasurement) -> bool:
    return (
        any(getattr(now, name) < getattr(old, name) for name in _COUNTERS)
        or any(now.drops.get(cause, 0) < count for cause, count in old.drops.items())
        or _bucket_fell(now.delay, old.delay)
        or _bucket_fell(now.late, old.late)
    )


def _bucket_fell(now: Buckets, old: Buckets) -> bool:
    counted = dict(now)
    return any(counted.get(low, 0) < count for low, count in old)


def _buckets_since(now: Buckets, old: Buckets) -> Buckets:
    counted = dict(old)
    return tuple((low, n - counted.get(low, 0)) for low, n in now if n > counted.get(low, 0))


def cpu_share(before: Snapshot, after: Snapshot, cpus: int) -> float | None:
    """CPU time in between of the processes that carry the nodes, as a share of the machine."""
    old, new = _by_process(before), _by_process(after)
    used_ms = sum(cpu - old[process][0] for process, (cpu, _) in new.items() if process in old)
    spans = [time - old[process][1] for process, (_, time) in new.items() if process in old]
    span = max(spans, default=0)
    return round(used_ms / span / cpus, 4) if span > 0 else None


def _by_process(snapshot: Snapshot) -> dict[int, tuple[int, int]]:
    """CPU time and time in milliseconds by process."""
    return {node.process: (node.cpu_ms, node.time_ms) for node in snapshot.nodes.values()}


def overload_since(before: Snapshot, after: Snapshot) -> dict[Shard, int]:
    """Packets that threads dropped in between; those of which only the end is known are left out."""
    old, new = _by_shard(before), _by_shard(after)
    processes = {process for process, _ in old}
    started = {
        (now.process, now.shard)
        for node, now in after.nodes.items()
        if node in before.nodes and now.process not in processes
    }
    found = {shard: count for shard, count in new.items() if shard in started}
    for shard in old.keys() & new.keys():
        found[shard] = new[shard] - old[shard] if new[shard] >= old[shard] else new[shard]
    return found


def _by_shard(snapshot: Snapshot) -> dict[Shard, int]:
    found: dict[Shard, int] = {}
    for node in snapshot.nodes.values():
        shard = (node.process, node.shard)
        found[shard] = max(found.get(shard, 0), node.overload_drops)
    return found
