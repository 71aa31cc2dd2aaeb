"""Test what nodes are sent about user-space flows, and how flows end, without nodes."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.controller.flow_table import FlowTable
from orchestrator.protocol.messages import AddFlows, FinishedFlow, StopFlows
from orchestrator.store import FlowChange, FlowRow

NOW = 1_000_000


def row(number: int, src: int = 1, dst: int = 2, **facts: object) -> FlowRow:
    plain = FlowRow(
        number, src, dst, 500, None, None, None, "tcp", None, "running", "sql", "waiting", "", None, None, 0
    )
    return replace(plain, **facts)  # type: ignore[arg-type]


def change(flow: FlowRow, *, gone: bool = False) -> FlowChange:
    return FlowChange(flow.flow_id, flow.flow_id, flow.src, flow.dst, None if gone else flow)


def sent(table: FlowTable, node: int) -> list[tuple[str, list[int]]]:
    """What a node is sent, by type and numbers."""
    return [
        (message.type, [flow.controller_id for flow in message.flows])
        if isinstance(message, AddFlows)
        else (message.type, list(message.controller_ids))
        for message in table.take_messages(node)
    ]


def running(*numbers: int) -> FlowTable:
    table = FlowTable((), {1: 7, 2: 8})
    for number in numbers:
        table.changed(change(row(number)), NOW)
    for node in (1, 2):
        table.take_messages(node)
    for number in numbers:
        table.started(number, NOW)
    return table


def test_a_flow_is_sent_to_its_ends_once() -> None:
    table = FlowTable((), {})
    assert table.changed(change(row(1)), NOW) == "added"
    assert table.nodes_to_tell() == [1, 2]
    assert sent(table, 1) == [("AddFlows", [1])] == sent(table, 2)
    assert table.changed(change(row(1)), NOW) == "", "the same row again is no change"
    assert table.nodes_to_tell() == []


def test_a_node_that_reconnects_is_sent_its_flows_again() -> None:
    table = running(1)
    table.registered(1, 7, NOW)
    assert sent(table, 1) == [("AddFlows", [1])]
    assert table.nodes_to_tell() == []


def test_a_stop_before_anything_was_sent_ends_a_flow_at_once() -> None:
    table = FlowTable((), {})
    table.changed(change(row(1)), NOW)
    assert table.changed(change(row(1, wanted="stopped")), NOW) == "changed"
    assert [flow.state for flow in table.take_ended()] == ["stopped"]
    assert table.nodes_to_tell() == []


def test_a_stop_waits_for_the_report_of_the_source() -> None:
    table = running(1)
    table.changed(change(row(1, wanted="stopped")), NOW)
    assert sent(table, 1) == [("StopFlows", [1])] == sent(table, 2)
    assert not table.take_ended()
    table.finished(FinishedFlow(b"", 1, 2, 77, 1, "stopped"))
    (flow,) = table.take_ended()
    assert (flow.state, flow.bytes, flow.start_us, flow.finish_us) == ("stopped", 77, 1_000, 2_000)


def test_a_stop_that_was_not_answered_is_sent_again() -> None:
    table = running(1)
    table.changed(change(row(1), gone=True), NOW)
    table.unanswered(1, StopFlows((1,)))
    assert sent(table, 1) == [("StopFlows", [1])]


def test_a_process_that_is_replaced_lets_its_running_flows_fail() -> None:
    table = running(1)
    table.changed(change(row(2)), NOW)
    table.registered(2, 9, NOW)
    (flow,) = table.take_ended()
    assert (flow.flow_id, flow.state, flow.reason) == (1, "failed", "node 2 was restarted")
    assert sent(table, 1) == [("StopFlows", [1]), ("AddFlows", [2])]
    assert sent(table, 2) == [("AddFlows", [2])]


def test_a_node_stopped_by_request_lets_its_running_flows_fail() -> None:
    table = running(1)
    table.changed(change(row(2)), NOW)
    table.stopped_by_request(1, NOW)
    assert [(flow.flow_id, flow.reason) for flow in table.take_ended()] == [(1, "node 1 was stopped")]
    table.registered(1, 9, NOW)
    assert sent(table, 1) == [("AddFlows", [2])]


def test_a_row_read_before_its_end_was_written_does_not_open_the_flow_again() -> None:
    table = running(1)
    table.finished(FinishedFlow(b"", 1, 2, 500, 1))
    assert [flow.state for flow in table.take_ended()] == ["finished"]
    assert table.changed(change(row(1)), NOW) == ""
    table.closed_is_stored([1])
    assert len(table) == 0


def test_many_flows_are_sent_in_several_messages() -> None:
    table = FlowTable((row(number) for number in range(1, 2_502)), {})
    assert [len(message.flows) for message in table.take_messages(1) if isinstance(message, AddFlows)] == [
        1_000,
        1_000,
        501,
    ]
