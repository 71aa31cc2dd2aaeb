"""Test a few cases of `benchmarks.transfers`: kills during lossless transfers."""

from __future__ import annotations

from pathlib import Path

from benchmarks.transfers.draw import KINDS, VICTIMS, draw
from benchmarks.transfers.labs import Transfers
from orchestrator.deploy.home import Home


def test_nothing_is_falsely_complete_and_nothing_hangs(nm_home: Home, tmp_path: Path) -> None:
    transfers = Transfers(nm_home.path, tmp_path / "files", "kills")
    try:
        outcomes = [transfers.run(case) for case in draw(5, 5)]
    finally:
        transfers.end()
    assert [fault for each in outcomes for fault in each.faults] == []
    assert sum(each.transfers for each in outcomes) >= 12
    assert sum(each.verified for each in outcomes) >= 5, "those after the kill at least"


def test_a_series_is_drawn_from_its_seed_and_meets_every_kind_and_victim() -> None:
    series = draw(90, 7)
    assert series == draw(90, 7) != draw(90, 8)
    assert {(case.kind, case.victim) for case in series} == {(k, v) for k in KINDS for v in VICTIMS}
    for case in series:
        first = case.transfers[0]
        assert (case.victim == "sender") == (case.node == first.source)
        assert case.victim != "receiver" or case.node in first.receivers
        assert len({each.name for each in case.transfers}) == len(case.transfers)
