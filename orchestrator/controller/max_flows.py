"""Store what nodes in max mode report about their flows, and list them for operators."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from orchestrator.controller.core import Core, Session
from orchestrator.controller.registry import Node
from orchestrator.protocol import Frame, Message
from orchestrator.protocol import messages as m
from orchestrator.store import MaxFlowRow

__all__ = ["MaxFlows"]

MAX_PAGE = 10_000
"""Flows of one answer, some 2 MB."""


class MaxFlows:
    """The flows of nodes in max mode.

    Attributes:
        reports: What handles the reports of nodes, by type.
        of_operators: What answers operators.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self.reports: dict[type[Message], Callable[[Session, Node, Frame, Any], None]] = {
            m.MaxFlows: self._reported
        }
        self.of_operators: dict[type[Message], Callable[[Session, Frame, Any], Awaitable[None]]] = {
            m.GetMaxFlows: self._get
        }
        core.on_stopped.append(self._stopped)

    def _reported(self, session: Session, node: Node, frame: Frame, message: m.MaxFlows) -> None:
        self._core.store.max_flows.reported(
            MaxFlowRow(
                node=node.id,
                flow_id=flow.flow_id,
                entry=flow.entry,
                client=flow.client,
                destination=flow.destination,
                route=flow.route,
                start_us=flow.start_us,
                finish_us=flow.finish_us,
                bytes_out=flow.bytes_out,
                bytes_in=flow.bytes_in,
                reason=flow.reason,
            )
            for flow in message.flows
        )
        self._core.ack_stored(session, frame)  # a report that is not stored comes again

    def _stopped(self, node: Node) -> None:
        now = round(self._core.clock.wall() * 1e6)
        self._core.store.max_flows.node_gone(node.id, now, "the node was stopped")

    async def _get(self, session: Session, frame: Frame, message: m.GetMaxFlows) -> None:
        store = self._core.store
        await store.flushed()
        limit = max(1, min(message.limit, MAX_PAGE))
        rows = await store.read_max_flows(limit + 1, running=message.running)
        flows = tuple(_status(row) for row in rows[:limit])
        session.connection.reply(frame, m.MaxFlowList(frame.id, flows, len(rows) > limit))


def _status(row: MaxFlowRow) -> m.MaxFlowStatus:
    state = "running" if row.finish_us is None else "failed" if row.reason else "finished"
    return m.MaxFlowStatus(
        row.flow_id,
        row.node,
        row.entry,
        row.client,
        row.destination,
        state,
        row.start_us,
        row.route,
        row.finish_us,
        row.bytes_out,
        row.bytes_in,
        row.reason,
    )
