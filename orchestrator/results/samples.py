"""Turn samples of nodes into points of a time series: what happened between two samples. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from orchestrator.protocol.messages import LinkSample, NodeSample

__all__ = ["Point", "Samples", "points"]

Samples = Mapping[int, NodeSample]
"""The samples of one moment, by node."""

MOST_FLOWS = 8
"""Flows in a sample, those with the most bytes; as in `FLOWS_PER_SAMPLE` of the node."""

_NO_LINK = LinkSample(0, 0, 0)


class Point(NamedTuple):
    """One value of a series.

    Attributes:
        kind: `link`, `node`, `flow` or `host`.
        object: A link's direction, such as `1->2`; a node's number; a flow and the node that counted it.
        metric: What was measured; docs/how-to/report.md lists them with their units.
        value: Counts are those of the interval that ended at the sample.
    """

    kind: str
    object: str
    metric: str
    value: float


def points(before: Samples, after: Samples, cpus: int) -> list[Point]:
    """Return what happened between two moments.

    Nodes that are not in both are left out: since when they counted is not known. Counters that fell began
    anew with a new process or link, and then their values are those of the interval.

    Args:
        before: Samples at its beginning.
        after: Samples at its end.
        cpus: Processors of the machine.
    """
    found: list[Point] = []
    carried = Counter(sample.process for sample in after.values())
    for node, now in sorted(after.items()):
        old = before.get(node)
        if old is None or now.time_ms <= old.time_ms:
            continue
        seconds = (now.time_ms - old.time_ms) / 1000
        found += _links(node, old, now, seconds)
        found += _node(node, old, now)
        if carried[now.process] == 1 and now.process == old.process:
            found.append(Point("node", str(node), "cpu_share", (now.cpu_ms - old.cpu_ms) / 1000 / seconds))
        found += _flows(node, old, now, seconds)
    return found + list(_host(before, after, cpus))


def _links(node: int, old: NodeSample, now: NodeSample, seconds: float) -> Iterator[Point]:
    known = {link.remote_node_id: link for link in old.links} if old.process == now.process else {}
    for link in now.links:
        name = f"{node}->{link.remote_node_id}"
        past = known.get(link.remote_node_id, _NO_LINK)
        if link.packets < past.packets:
            past = _NO_LINK
        packets, size = link.packets - past.packets, link.bytes - past.bytes
        yield Point("link", name, "packets", packets)
        yield Point("link", name, "bytes", size)
        yield Point("link", name, "throughput", round(8 * size / seconds))
        yield Point("link", name, "queue_packets", link.queued_packets)
        yield Point("link", name, "queue_bytes", link.queued_bytes)
        if packets and link.delay_sum_us >= past.delay_sum_us:
            yield Point("link", name, "delay", (link.delay_sum_us - past.delay_sum_us) / packets / 1e6)
        for cause, count in link.drops.items():
            yield Point("link", name, f"drops.{cause}", _since(count, past.drops.get(cause, 0)))


def _node(node: int, old: NodeSample, now: NodeSample) -> Iterator[Point]:
    same = old.process == now.process
    for metric in ("packets_out", "bytes_out", "packets_in", "bytes_in"):
        past = getattr(old, metric) if same else 0
        yield Point("node", str(node), metric, _since(getattr(now, metric), past))
    for cause, count in now.drops.items():
        yield Point(
            "node", str(node), f"drops.{cause}", _since(count, old.drops.get(cause, 0) if same else 0)
        )


def _flows(node: int, old: NodeSample, now: NodeSample, seconds: float) -> Iterator[Point]:
    """The flows that moved; a node reports those with the most bytes alone.

    A flow that was not in the sample before is new if that was not full. Otherwise it may have had bytes
    already, in an earlier interval, and counts from its next sample.
    """
    known = {flow.flow: flow for flow in old.flows}
    complete = len(old.flows) < MOST_FLOWS or old.process != now.process
    for flow in now.flows:
        past = known.get(flow.flow)
        if past is None and not complete:
            continue
        size = _since(flow.bytes, past.bytes if past else 0)
        if size:
            name = f"{flow.flow} at {node}"
            yield Point("flow", name, "packets", _since(flow.packets, past.packets if past else 0))
            yield Point("flow", name, "bytes", size)
            yield Point("flow", name, "throughput", round(8 * size / seconds))


def _host(before: Samples, after: Samples, cpus: int) -> Iterator[Point]:
    """What the processes of the nodes took of the machine, and what its overload cost."""
    old = {sample.process: sample for sample in before.values()}
    new = {sample.process: sample for sample in after.values()}
    both = [(old[process], sample) for process, sample in new.items() if process in old]
    span = max((now.time_ms - past.time_ms for past, now in both), default=0)
    if span > 0:
        used = sum(now.cpu_ms - past.cpu_ms for past, now in both)
        yield Point("host", "host", "cpu_share", used / span / cpus)
    yield Point("host", "host", "overload_drops", sum(_overload(before, after)))


def _overload(before: Samples, after: Samples) -> Iterator[int]:
    """Packets that each thread dropped; its nodes all report its count."""
    past: dict[tuple[int, int], int] = {}
    for sample in before.values():
        past[sample.process, sample.shard] = sample.overload_drops
    now = {(sample.process, sample.shard): sample.overload_drops for sample in after.values()}
    for shard, count in now.items():
        if shard in past:
            yield _since(count, past[shard])


def _since(now: int, old: int) -> int:
    return now - old if now >= old else now
