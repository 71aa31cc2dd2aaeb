"""Test the tables of `nm top`: their rows, their order, and what a wrong column is answered with."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.cli.live import keys_in
from orchestrator.cli.top_views import COLUMNS, VIEWS, rate, rows_of, sorted_rows
from orchestrator.lab.metrics import MetricsSnapshot
from orchestrator.protocol import messages as m


def link(remote: int, bps: float, **drops: int) -> m.LinkMetrics:
    return m.LinkMetrics(remote, 10, 15_000, 5, 260, 4, 6_000, drops, bps, 0.0, 10.0, 3.0)


def node(*links: m.LinkMetrics, **more: Any) -> m.NodeMetrics:
    return m.NodeMetrics(1, 2, 3, 4, 5, 6, 7, 8e6, 9e3, links=links, **more)


def snapshot(**nodes: m.NodeMetrics) -> MetricsSnapshot:
    numbered = {int(name[1:]): each for name, each in nodes.items()}
    return MetricsSnapshot(m.MetricsState(0, 1_000, 3_600, 1, 0, 0), numbered)


def test_links_are_sorted_by_rate_and_their_drops_named() -> None:
    found = snapshot(n1=node(link(2, 1e6), link(3, 2.5e9, loss=3, queue_full=40)), n2=node(link(1, 2e6)))
    rows = sorted_rows(rows_of(found, "links"), "links", VIEWS["links"])
    assert [row.cells[:3] for row in rows] == [
        ("1", "3", "2.5 Gbit"),
        ("2", "1", "2 Mbit"),
        ("1", "2", "1 Mbit"),
    ]
    assert rows[0].cells[-1] == "queue_full=40 loss=3"
    by_name = sorted_rows(rows_of(found, "links"), "links", "to")
    assert [row.cells[1] for row in by_name] == ["1", "2", "3"], "names ascend"


def test_every_view_has_a_cell_for_each_column() -> None:
    flow = m.AppFlowMetrics("00", "udp 10.0.0.1:7 > 10.0.0.3:53", 0, 5, 10, 15_000, 0, 0, 1e3, 0.0, 9, 812)
    session = m.SessionCounter(4, "sender", 1, "active", 0, 0, 0, 0, 3, 812)
    group = m.GroupMetrics(1, 20, 30_000, 10, 15_000, 2.4e5, 1.2e5)
    found = snapshot(n1=node(link(2, 0.0), app_flows=(flow,), sessions=(session,), groups=(group,)))
    for view, columns in COLUMNS.items():
        (row,) = rows_of(found, view)
        assert len(row.cells) == len(row.keys) == len(columns), view
        for column in columns:
            assert len(sorted_rows([row, row], view, column)) == 2


@pytest.mark.parametrize(
    ("bps", "text"), [(0.0, ""), (12.0, "12 bit"), (1_500.0, "1.5 kbit"), (2.345e9, "2.35 Gbit")]
)
def test_rates_are_short(bps: float, text: str) -> None:
    assert rate(bps) == text


def test_keys_that_are_pressed_together_all_count_and_those_of_arrows_do_not() -> None:
    assert keys_in("lo") == ["l", "o"]
    assert keys_in("\x1b") == ["\x1b"]
    assert keys_in("\x1b[A") == []
