"""Tables show a person what matters."""

from __future__ import annotations

from orchestrator.results import tables

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
