"""Test the tables of reports."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from benchmarks import report
from benchmarks.chaos import recovery
from benchmarks.chaos.report import REPAIRED
from benchmarks.targets import grade_target
from benchmarks.transfers import report as transfers


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (None, "s", "–"),
        (0.6, "ratio", "0.60"),
        (0.4567, "", "0.457"),
        (1.0, "ratio", "1"),
        (1.7, "s", "1.70 s"),
        (54.25, "µs", "54.2 µs"),
        (187422.8, "packets/s", "187,423 packets/s"),
        (0.0, "s", "0 s"),
        (0.05, "% of a core", "0.05 % of a core"),
    ],
)
def test_numbers_show_about_three_digits_and_their_unit(
    value: float | None, unit: str, expected: str
) -> None:
    assert report.number(value, unit) == expected


def test_a_table_is_padded_so_that_it_reads_well_raw() -> None:
    shown = report.table(("A", "Wide"), [["x|y", "1"], ["z", "22"]], right=frozenset({1}))
    assert shown.splitlines() == [
        "| A    | Wide |",
        "| ---- | ---: |",
        "| x\\|y |    1 |",
        "| z    |   22 |",
    ]


def test_a_claim_of_others_stands_in_its_own_column_and_is_not_in_reached() -> None:
    shown = report.text(_record())
    line = next(line for line in shown.splitlines() if line.startswith(("|   1 |", "| 1 |")))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[5:7] == ["0.90", "target"]
    assert cells[7].startswith("Nextmini")


def test_what_cannot_run_is_named_with_its_reason() -> None:
    shown = report.text(_record())
    assert "- `mininet-3`: mn is not installed" in shown
    assert "not runnable" in shown


def test_discarded_rounds_are_listed() -> None:
    assert "Round 2 does not count: loopback at 40%." in report.text(_record())


def test_the_page_holds_each_target_once() -> None:
    shown = report.page({"dataplane": _record()})
    assert shown.startswith("# Benchmarks\n")
    assert shown.count("TUN to TUN, 1 stream") == 1


def _record() -> dict[str, Any]:
    return {
        "benchmark": "dataplane",
        "machine": {
            "date": "2026-01-01T00:00:00+00:00",
            "cores": 2,
            "cpu": "test",
            "memory_bytes": 2**30,
            "kernel": "6.18",
            "kernel_config": {"TUN": "y", "NET_SCH_NETEM": "n"},
            "congestion_control": "bbr",
            "versions": {"python": "3.11"},
            "load_average": 0.0,
            "wake_up_us": 54.0,
            "commit": "abc",
        },
        "settings": {"timing": {"seconds": 3, "warm_up": 1}},
        "sysctls_restored": {},
        "not_runnable": {"mininet-3": "mn is not installed"},
        "cases": [
            {
                "name": "nm-2/tcp",
                "unit": "Gb/s",
                "pinned": {
                    "median": 27.0,
                    "best": 29.0,
                    "reference": "veth-2/tcp",
                    "paired": 0.9,
                    "best_to_best": 0.92,
                    "cpu_seconds_per_gigabit": 0.06,
                    "retransmits": None,
                    "values": [25.0, 29.0],
                },
                "unpinned": None,
                "reason": "",
            },
            {
                "name": "mininet-3/tcp",
                "unit": "Gb/s",
                "pinned": None,
                "unpinned": None,
                "reason": "mn is not installed",
            },
        ],
        "rounds": [{"number": 1, "pinned": True}, {"number": 2, "pinned": False}],
        "discarded": [{"number": 2, "reason": "loopback at 40%"}],
        "checks": [{"path": "nm-2", "name": "no kernel short cut", "ok": True, "detail": "by utun"}],
        "rows": [
            result.as_json()
            for result in (grade_target(1, 0.9, basis="nm-2"), grade_target(7, None, note="later"))
        ],
    }


def test_a_series_of_kills_says_how_each_ended_and_what_came_too_late() -> None:
    shown = report.text(_series())
    assert "2 kills; in 1 more draws" in shown
    lines = [line.replace(" ", "") for line in shown.splitlines() if line.startswith("| ")]
    assert "|idle|host|1|0|1|0|0|0|0|0|" in lines
    assert "|run|nm|1|0|0|0|0|1|0|0|" in lines
    assert "|all||2|0|1|0|0|1|0|0|" in lines
    assert "- 2 run/pingall nm at 0.50, then up: ended without a name" in shown
    assert "Results of the kills" in report.page({"chaos": _series()})


def _series() -> dict[str, Any]:
    def kill(number: int, phase: str, victim: str, way: str, names: list[str], fault: str) -> dict[str, Any]:
        command = {"idle": "status", "run": "pingall", "up": "up"}[phase]
        return {
            "kill": f"{number} {phase}/{command} {victim} at 0.50, then up",
            "phase": phase,
            "victim": victim,
            "hit": phase != "up",
            "way": way,
            "names": names,
            "faults": [fault] if fault else [],
        }

    return {
        "benchmark": "chaos",
        "machine": _record()["machine"],
        "rows": [],
        "seed": 7,
        "kills": [
            kill(1, "idle", "host", REPAIRED, ["status degraded", "up ok"], ""),
            kill(2, "run", "nm", "", ["run ?hung"], "ended without a name"),
            kill(3, "up", "nm", "", ["up ok"], ""),
        ],
    }


def test_a_series_of_kills_that_nobody_repairs_says_what_came_back_and_what_was_lost() -> None:
    def kill(number: int, phase: str, seconds: float | None, run: str, *faults: str) -> dict[str, Any]:
        named = {"kill": f"{number} {phase} host at 0.50", "phase": phase, "victim": "host", "hit": True}
        return {**named, "seconds": seconds, "run": run, "faults": list(faults)}

    record = {
        "benchmark": "healing-native",
        "backend": "native",
        "machine": _record()["machine"],
        "rows": [],
        "seed": 7,
        "limit_s": 30.0,
        "left": ["left: process 7"],
        "kills": [
            kill(1, "idle", 1.0, ""),
            kill(2, "idle", None, "", "not recovered within 30 s"),
            kill(3, "run", 2.0, "failed with a reason"),
            kill(4, "run", 3.0, "went on", "lost: 2 rows of finished runs"),
        ],
    }
    shown = report.text(record)
    lines = [line.replace(" ", "") for line in shown.splitlines() if line.startswith("| ")]
    assert "|idle|host|2|1|1|0|1.0|1.0|||" in lines
    assert "|run|host|2|1|0|1|2.5|3.0|1|1|" in lines
    assert "|all||4|2|1|1|2.0|3.0|1|1|" in lines
    assert "- 4 run host at 0.50: lost: 2 rows of finished runs" in shown and "process 7" in shown
    assert report.page({"healing-native": record, "chaos": _series()}).count("Recovery after SIGKILL") == 1


def test_a_drawn_series_meets_every_part_in_both_phases() -> None:
    kills = list(recovery.draw(16, 7, ("controller", "host")))
    assert kills == list(recovery.draw(16, 7, ("controller", "host"))), "all comes from the seed"
    counted = Counter((kill.phase, kill.victim) for kill in kills)
    assert set(counted.values()) == {4} and len(counted) == 4


def test_a_series_of_transfers_counts_by_kind_and_victim_and_lists_faults() -> None:
    case = {"transfers": 2, "verified": 3, "named": 1, "unproven": 0, "faults": []}
    cases = [
        {"case": "1", "kind": "unicast", "victim": "sender", **case},
        {"case": "2", "kind": "group", "victim": "relay", **case, "faults": ["node 3 said complete"]},
        {"case": "3", "kind": "group", "victim": "relay", **case},
    ]
    said = "\n".join(transfers.sections({"seed": 7, "cases": cases}))
    rows = [line.split("|")[1:-1] for line in said.splitlines() if line.startswith("| group")]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["group", "relay", "2", "4", "6", "2", "0", "1"]
    ]
    assert "- 2: node 3 said complete" in said
