"""Symbols of perf as kinds of cost."""

from __future__ import annotations

import pytest

from benchmarks import costs, report
from benchmarks.errors import BenchmarkError

_REPORT = """\
# Samples: 9K of event 'cpu-clock'
# Overhead  Symbol
    20.00%  [k] _copy_from_iter
     5.00%  [k] copy_page_from_iter
    10.50%  [k] _copy_to_iter
     8.00%  [k] finish_task_switch.isra.0
     7.00%  [.] nm_engine::engine::forward::<impl nm_engine::engine::Engine>::admit
     4.00%  [.] __GI___libc_write
     1.50%  [k] some_function_nobody_knows
"""


def test_symbols_add_up_by_kind_largest_first() -> None:
    found = costs.sort_costs(costs.parse_report(_REPORT))
    assert [(cost.kind, round(cost.share, 3)) for cost in found] == [
        ("copying from a packet's buffer into the device", 0.25),
        (costs.USER_SPACE, 0.11),
        ("copying from the device into a packet's buffer", 0.105),
        ("task switches and wake-ups", 0.08),
        ("the rest of the kernel", 0.015),
    ]
    assert found[0].symbols == ("_copy_from_iter", "copy_page_from_iter")


def test_no_sample_is_an_error_and_no_empty_table() -> None:
    with pytest.raises(BenchmarkError, match="no samples"):
        costs.sort_costs(costs.parse_report("# nothing here\n"))


def test_the_three_largest_are_named_and_a_missing_profile_says_why() -> None:
    found = [
        {"kind": cost.kind, "share": cost.share, "symbols": cost.symbols}
        for cost in costs.sort_costs(costs.parse_report(_REPORT))
    ]
    text = report._costs_text({"nm-2/tcp": {"costs": found}, "nm-2/udp": {"reason": "perf is not installed"}})
    assert "the three largest: copying from a packet's buffer into the device (25%), user space (11%)" in text
    assert "`nm-2/udp`: not profiled: perf is not installed." in text
