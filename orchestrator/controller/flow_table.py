"""User-space flows that have not ended: what nodes have to be sent, and what became of flows.

Pure: changes of rows and reports of nodes go in, messages and ends of flows come out. A flow is sent to both
of its ends; its source alone reports about it. Everything may be repeated: a node that has a flow goes on
with it, and one that does not have it skips that it is stopped.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from orchestrator.protocol.messages import AddFlows, FinishedFlow, Flow, StopFlows
from orchestrator.store import FlowChange, FlowRow

__all__ = ["FlowTable"]

MOST_IN_MESSAGE = 1_000
"""Flows of one message: some 100 KB, far below the size limit of messages."""


@dataclass(slots=True)
class _Open:
    """A flow that has not ended; `at` has the nodes that may know of it."""

    row: FlowRow
    at: set[int]


class FlowTable:
    """The flows that have not ended.

    Args:
        rows: Those of the controller before this one; either end may know of them.
        processes: The processes in which nodes were last.
    """

    def __init__(self, rows: Iterable[FlowRow], processes: dict[int, int]) -> None:
        self._open: dict[int, _Open] = {}
        self._of_node: dict[int, set[int]] = defaultdict(set)
        self._add: dict[int, set[int]] = defaultdict(set)
        self._stop: dict[int, set[int]] = defaultdict(set)
        self._processes = processes
        self._ended: list[FlowRow] = []
        self._closed: set[int] = set()
        for row in rows:
            self._insert(row, {row.src, row.dst})

    def __contains__(self, flow_id: int) -> bool:
        return flow_id in self._open

    def __len__(self) -> int:
        return len(self._open)

    def row(self, flow_id: int) -> FlowRow | None:
        """Return a flow as it is now, if it has not ended."""
        flow = self._open.get(flow_id)
        return None if flow is None else flow.row

    def of_nodes(self, nodes: Iterable[int]) -> list[FlowRow]:
        """Return the flows that begin or end at one of these nodes, in order."""
        ids = {flow_id for node in nodes for flow_id in self._of_node.get(node, ())}
        return [self._open[flow_id].row for flow_id in sorted(ids) if flow_id in self._open]

    # Changes of rows.

    def changed(self, change: FlowChange, now_us: int) -> str:
        """Take a changed row; return whether a flow was `added`, `changed` or `removed`, or nothing."""
        flow, row = self._open.get(change.flow_id), change.row
        if row is None:
            if flow is None:
                return ""
            self._discard(flow)
            self._stop_at(change.flow_id, flow.at)
            return "removed"
        if row.state not in ("waiting", "running") or change.flow_id in self._closed:
            return ""
        if flow is None:
            flow = self._insert(row, set())
            if row.wanted == "stopped":
                self._end(flow, "stopped", "stopped", now_us)
            return "added"
        before = flow.row
        flow.row = replace(
            before, wanted=row.wanted, rate_bps=row.rate_bps, weight=row.weight, route_id=row.route_id
        )
        if before == flow.row:
            return ""
        if row.wanted == "stopped":
            self._stop_open(flow, now_us)
        else:
            for node in flow.at:
                self._add[node].add(change.flow_id)
        return "changed"

    def removed_before(self, change: FlowChange) -> None:
        """Take a row that was deleted while no controller was there: its ends may still have the flow."""
        self._stop_at(change.flow_id, (change.src, change.dst))

    def closed_is_stored(self, flow_ids: Iterable[int]) -> None:
        """The rows of flows that ended are written; until then they look as if the flows were open."""
        self._closed.difference_update(flow_ids)

    # What happens to nodes.

    def registered(self, node: int, process: int, now_us: int) -> None:
        """A node is there: send it its flows; those that ran in another process than this one have failed."""
        before, self._processes[node] = self._processes.get(node, process), process
        replaced = before not in (0, process)
        if replaced:
            self._stop.pop(node, None)
        for flow_id in sorted(self._of_node.get(node, ())):
            flow = self._open[flow_id]
            if replaced:
                flow.at.discard(node)
                if flow.row.state == "running" or flow.row.wanted == "stopped":
                    self._lose(flow, f"node {node} was restarted", now_us)
                    continue
            if flow.row.wanted == "stopped":
                self._stop[node].add(flow_id)
            else:
                self._add[node].add(flow_id)

    def stopped_by_request(self, node: int, now_us: int) -> None:
        """A node is stopped by request: its running flows have failed, the others wait for its return."""
        self._add.pop(node, None)
        for flow_id in sorted(self._of_node.get(node, ())):
            flow = self._open[flow_id]
            flow.at.discard(node)
            if flow.row.state == "running" or flow.row.wanted == "stopped":
                self._lose(flow, f"node {node} was stopped", now_us)

    # What nodes report.

    def started(self, flow_id: int, start_us: int) -> bool:
        """A source reports that a flow began; return whether that is new."""
        flow = self._open.get(flow_id)
        if flow is None:
            return False
        new = flow.row.state == "waiting"
        flow.row = replace(flow.row, state="running", start_us=start_us)
        return new

    def unknown(self, flow_id: int, node: int) -> None:
        """Stop a flow in a node that reports about it, though it is not open: it was deleted or failed."""
        if flow_id not in self._open:
            self._stop[node].add(flow_id)

    def progressed(self, flow_id: int, size: int) -> bool:
        """A source reports how much of a flow has arrived; return whether the flow is open."""
        flow = self._open.get(flow_id)
        if flow is not None:
            flow.row = replace(flow.row, bytes=size)
        return flow is not None

    def routed(self, flow_id: int, route_id: int | None) -> bool:
        """A source reports the explicit route of a flow, None for none; return whether it is another one."""
        flow = self._open.get(flow_id)
        if flow is None:
            return False
        before, flow.row = flow.row.taken_route, replace(flow.row, taken_route=route_id)
        return before not in (None, route_id)

    def finished(self, report: FinishedFlow) -> None:
        """A source reports that a flow ended."""
        flow = self._open.get(report.controller_id or 0)
        if flow is None:
            return
        state = {"": "finished", "stopped": "stopped"}.get(report.reason, "failed")
        start = report.start_us or report.start_ms * 1000
        finish = max(report.finish_us or report.finish_ms * 1000, start)
        reason = report.reason
        if state == "stopped" and flow.row.wanted != "stopped":
            state, reason = "failed", "stopped by its node"
        flow.row = replace(flow.row, start_us=start, bytes=report.size_bytes)
        self._end(flow, state, reason, finish)

    def refused(self, node: int, flow_ids: Iterable[int], why: str, now_us: int) -> None:
        """A node does not take flows."""
        for flow_id in flow_ids:
            flow = self._open.get(flow_id)
            if flow is not None:
                flow.at.discard(node)
                self._lose(flow, f"node {node} refused it: {why}", now_us)

    def fail(self, flow_id: int, why: str, now_us: int) -> None:
        """A flow cannot be started, or cannot go on."""
        flow = self._open.get(flow_id)
        if flow is not None:
            self._lose(flow, why, now_us)

    # What follows.

    def nodes_to_tell(self) -> list[int]:
        """Return the nodes for which there are messages."""
        return sorted({node for part in (self._add, self._stop) for node, flows in part.items() if flows})

    def to_be_added(self, node: int) -> list[FlowRow]:
        """Return the flows that a node has still to be sent."""
        return [self._open[flow_id].row for flow_id in sorted(self._add.get(node, ()))]

    def take_messages(self, node: int) -> list[AddFlows | StopFlows]:
        """Return what a node has to be sent, once; `unanswered` brings it back."""
        stops, adds = sorted(self._stop.pop(node, ())), sorted(self._add.pop(node, ()))
        for flow_id in adds:
            self._open[flow_id].at.add(node)
        found: list[AddFlows | StopFlows] = [
            StopFlows(tuple(stops[first : first + MOST_IN_MESSAGE]))
            for first in range(0, len(stops), MOST_IN_MESSAGE)
        ]
        for first in range(0, len(adds), MOST_IN_MESSAGE):
            flows = (self._open[flow_id].row for flow_id in adds[first : first + MOST_IN_MESSAGE])
            found.append(AddFlows(tuple(_message(row) for row in flows)))
        return found

    def unanswered(self, node: int, message: AddFlows | StopFlows) -> None:
        """A connection ended before its node answered: flows are sent again by `registered`, stops now."""
        if isinstance(message, StopFlows):
            self._stop[node].update(message.controller_ids)

    def take_ended(self) -> list[FlowRow]:
        """Return the flows that have ended since the last call, as they are from now on."""
        ended, self._ended = self._ended, []
        return ended

    # Helpers.

    def _insert(self, row: FlowRow, at: set[int]) -> _Open:
        flow = self._open[row.flow_id] = _Open(row, at)
        for node in (row.src, row.dst):
            self._of_node[node].add(row.flow_id)
            self._add[node].add(row.flow_id)
        return flow

    def _discard(self, flow: _Open) -> None:
        row = flow.row
        del self._open[row.flow_id]
        for node in (row.src, row.dst):
            self._of_node[node].discard(row.flow_id)
            if node in self._add:
                self._add[node].discard(row.flow_id)

    def _stop_at(self, flow_id: int, nodes: Iterable[int]) -> None:
        for node in nodes:
            self._stop[node].add(flow_id)

    def _stop_open(self, flow: _Open, now_us: int) -> None:
        """Stop a flow: its source reports its end, unless it never got it."""
        row = flow.row
        for node in (row.src, row.dst):
            if node in self._add:
                self._add[node].discard(row.flow_id)
        self._stop_at(row.flow_id, flow.at)
        if row.src not in flow.at:
            self._end(flow, "stopped", "stopped", now_us)

    def _lose(self, flow: _Open, why: str, now_us: int) -> None:
        """End a flow whose source will not report its end."""
        self._stop_at(flow.row.flow_id, flow.at)
        if flow.row.wanted == "stopped":
            self._end(flow, "stopped", "stopped", now_us)
        else:
            self._end(flow, "failed", why, now_us)

    def _end(self, flow: _Open, state: str, reason: str, finish_us: int) -> None:
        self._discard(flow)
        self._closed.add(flow.row.flow_id)
        self._ended.append(replace(flow.row, state=state, reason=reason, finish_us=finish_us))


def _message(row: FlowRow) -> Flow:
    return Flow(
        controller_id=row.flow_id,
        src_node_id=row.src,
        dst_node_id=row.dst,
        size_bytes=row.size_bytes,
        duration_ms=row.duration_ms,
        rate_bps=row.rate_bps,
        weight=row.weight,
        route_id=row.route_id,
        transport=row.transport,
    )
