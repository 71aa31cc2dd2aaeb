"""Test result tables for the terminal."""

from __future__ import annotations

from orchestrator.results import tables
from orchestrator.results.tables import MAX_CELL

WORKER = {
    "node": 3,
    "role": "worker",
    "round": 1,
    "state": "complete",
    "bytes": 90_000_000,
    "seconds": 0.25,
    "mb_per_s": 360.0,
    "repair_rounds": 0,
    "sha256": "0123456789abcdef",
    "reason": "",
}
TRAINER = {
    "node": 1,
    "role": "trainer",
    "round": 1,
    "payload_bytes": 1000,
    "bytes_sent": 2054,
    "out_degree": 2,
    "unicast_bytes": 3000,
    "sha256": "0123",
}


def test_weights_sync_compares_what_left_the_sender_with_the_tree_and_with_unicast() -> None:
    receivers, sender = tables("weights-sync", [{**WORKER, "node": 4}, WORKER, TRAINER])
    assert receivers.columns == ("node", "round", "state", "bytes", "seconds", "MB/s", "repair", "sha256")
    assert [row[0] for row in receivers.rows] == ["3", "4"]
    assert receivers.rows[0][3:] == ("90 000 000", "0.250", "360.0", "0", "0123456789ab")
    assert dict(zip(sender.columns, sender.rows[0], strict=True))["sent / payload × out-degree"] == "1.0270"
    assert dict(zip(sender.columns, sender.rows[0], strict=True))["sent / unicast"] == "0.6847"


def test_a_reason_gets_a_column_when_there_is_one() -> None:
    (receivers,) = tables("weights-sync", [{**WORKER, "state": "timed_out", "reason": "never ready"}])
    assert receivers.columns[-1] == "reason"


def test_any_scenario_has_a_table_per_role() -> None:
    rows = [{"node": 2, "role": "b", "ok": True}, {"node": 1, "role": "a", "seen": [1, 2], "rate": 1234.5}]
    shown = {each.title: each for each in tables("mine", rows)}
    assert shown["b"].rows == (("2", "yes"),)
    assert shown["a"].columns == ("node", "seen", "rate")
    assert shown["a"].rows == (("1", "1, 2", "1234.5"),)


def test_a_long_table_is_cut_and_says_so() -> None:
    (table,) = tables("mine", [{"node": n, "role": "a"} for n in range(1, 201)])
    assert len(table.rows) == 50
    assert table.note == "and 150 more rows in rows.csv"


def test_no_rows_no_tables() -> None:
    assert tables("mine", []) == []


def test_a_cell_is_one_line_of_bounded_length_without_control_characters() -> None:
    row = {
        "node": 1,
        "role": "a",
        "long": "x" * 1_000_000,
        "list": list(range(100_000)),
        "lines": "a\nb",
        "odd": "\x1b[31mred\ud800",
        "k\ney": "é ✓",
    }
    [table] = tables("mine", [row])
    shown = dict(zip(table.columns, table.rows[0], strict=True))
    assert all(len(cell) <= MAX_CELL for cell in (shown["long"], shown["list"]))
    assert shown["long"].endswith("x…") and shown["list"].startswith("0, 1, 2")
    assert (shown["lines"], shown["odd"]) == (r"a\nb", r"\x1b[31mred\ud800")
    assert shown[r"k\ney"] == "é ✓"
