"""Test timelines: reading, expanding to single changes, and what is refused for a topology."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator import scenario, topology
from orchestrator.errors import ScenarioInvalid
from orchestrator.impairment import LinkSpec
from orchestrator.protocol.messages import TimelineChange
from orchestrator.topology.language import LINK_FIELDS

RING = topology.loads(
    "name: ring\ntopology: {type: ring, n_nodes: 4}\nnodes: {3: {name: db}, 4: {external: true}}\n"
    "defaults: {link: {delay: 10 ms}}"
)


def test_the_timeline_of_the_documentation_is_expanded_in_order_of_time(tmp_path: Path) -> None:
    changes = _expand(
        tmp_path,
        "{at: 2 s, set: [1, 2], delay: 80 ms, loss: 2 %}",
        "{from: 4 s, to: 8 s, ramp: [1, 2], rate: [100 Mbit, 10 Mbit], steps: 2}",
        "{every: 3 s, from: 1 s, to: 5 s, flap: [2, db], down_for: 200 ms, backward: true, by: unstable}",
        '{at: 9 s, partition: "1,2|3,4"}',
        "{at: 12 s, heal: true}",
        "{at: 13 s, reset: [1, 2]}",
        "{at: 13.5 s, reset: all}",
        "{at: 14 s, node: db, do: kill}",
        "{at: 15 s, down: [2, 1], forward: true}",
    )
    assert [(each.at_us / 1e6, each.do, each.where) for each in changes] == [
        (1.0, "down", "3 → 2"),
        (1.2, "up", "3 → 2"),
        (2.0, "set", "1–2"),
        (4.0, "set", "1–2"),
        (4.0, "down", "3 → 2"),
        (4.2, "up", "3 → 2"),
        (6.0, "set", "1–2"),
        (8.0, "set", "1–2"),
        (9.0, "partition", "1,2|3,4"),
        (12.0, "heal", "all links"),
        (13.0, "reset", "1–2"),
        (13.5, "reset", "all links"),
        (14.0, "node", "node 3"),
        (15.0, "down", "2 → 1"),
    ]
    assert changes[0].cause == "timeline of t: unstable"
    assert changes[2].spec == LinkSpec(delay_us=80_000, loss=0.02)
    assert [changes[i].spec for i in (3, 6, 7)] == [
        LinkSpec(rate_bps=rate) for rate in (100_000_000, 55_000_000, 10_000_000)
    ]
    assert (changes[8].groups, changes[12].fault) == (((1, 2), (3, 4)), "kill")


def test_a_ramp_changes_several_keys_together_and_ends_on_its_last_values(tmp_path: Path) -> None:
    ramp = (
        "{from: 0, to: 1 s, ramp: [1, 2], delay: [10 ms, 11 ms], loss: ['{mean: 0, burst: 2}', %s], steps: 3}"
    )
    changes = _expand(tmp_path, (ramp % "'{mean: 1 %, burst: 3}'").replace("'", ""))
    assert [each.at_us for each in changes] == [0, 333_333, 666_666, 1_000_000]
    specs = [each.spec for each in changes if each.spec]
    assert [spec.delay_us for spec in specs] == [10_000, 10_333, 10_667, 11_000]
    assert [spec.loss_burst for spec in specs] == [pytest.approx(each) for each in (2, 7 / 3, 8 / 3, 3)]
    assert (specs[-1].loss, specs[-1].loss_burst) == (0.01, 3.0)


def test_a_ramp_of_jitter_has_a_list_of_delays_and_no_file(tmp_path: Path) -> None:
    ramp = "{from: 1 s, to: 2 s, ramp: [1, 2], jitter: [{std: 1 ms%s}, {std: 3 ms%s}], steps: 2}"
    table = f", distribution: {[1, 2, 3, 4, 5, 6, 7, 8, 9, 16]}"
    changes = _expand(tmp_path, ramp % (table, table))
    assert [each.spec.jitter_us for each in changes if each.spec] == [1_000, 2_000, 3_000]
    assert all(each.spec and each.spec.jitter_distribution == "table" for each in changes)
    for ends in [(", distribution: t.csv",) * 2, ("", ", distribution: ./t.csv")]:
        with pytest.raises(ScenarioInvalid) as caught:
            _expand(tmp_path, ramp % ends)
        (problem,) = caught.value.problems
        assert problem.message == "a ramp of jitter reads no file of delays"
        assert problem.id == "scenario.timeline-ramp"
        assert problem.place is not None and problem.place.line == 3


def test_any_entry_but_a_ramp_can_be_repeated(tmp_path: Path) -> None:
    changes = _expand(tmp_path, '{every: 2 s, to: 5 s, partition: [[1, 2], ["3-4"]]}')
    assert [each.at_us for each in changes] == [0, 2_000_000, 4_000_000]
    assert changes[0].groups == ((1, 2), (3, 4))


def test_every_key_that_a_running_link_can_change_is_a_key_of_timelines() -> None:
    from orchestrator.scenario.timeline_keys import ACTIONS

    live = set(LINK_FIELDS) - {"down", "trace"}
    assert live <= set(ACTIONS["set"].fields)
    assert live - {"profile"} <= set(ACTIONS["ramp"].fields)


@pytest.mark.parametrize(
    ("entry", "id", "message"),
    [
        ("{at: 1 s, set: [1, 3], delay: 1 ms}", "timeline-link", "there is no link 1–3 in ring"),
        ("{at: 1 s, down: [1, 9]}", "timeline-node", "names `9`, which is no node"),
        ("{at: 1 s, down: [1, 2-3]}", "timeline-node", "several nodes"),
        ("{at: 60 s, heal: true}", "timeline-time", "by its time limit of 60 s"),
        ("{every: 1 s, from: 59 s, to: 60 s, flap: [1, 2], down_for: 999 ms}", "", ""),
        ('{at: 1 s, partition: "1,2|2,3"}', "timeline-partition", "names node 2 twice"),
        ('{at: 1 s, partition: "1|3"}', "timeline-partition", "nothing would change"),
        ("{at: 1 s, partition: 1-4}", "timeline-partition", "nothing would change"),
        ("{at: 1 s, set: [1, 2], jitter: 11 ms}", "timeline-value", "at 1 s the link 1–2 cannot do that"),
        (
            "{from: 1 s, to: 2 s, ramp: [1, 2], jitter: [1 ms, 20 ms]}",
            "timeline-value",
            "a jitter of 10.5 ms",
        ),
        ("{at: 1 s, node: 4, do: stop}", "timeline-node", "node 4 is external"),
        ("{every: 1 ms, to: 59 s, heal: true}", "timeline-size", "59000 changes, but at most 2000"),
    ],
)
def test_what_the_topology_does_not_allow_is_refused_at_its_place(
    tmp_path: Path, entry: str, id: str, message: str
) -> None:
    if not id:
        assert len(_expand(tmp_path, entry)) == 2
        return
    with pytest.raises(ScenarioInvalid) as caught:
        _expand(tmp_path, entry)
    (problem,) = caught.value.problems
    assert problem.id == f"scenario.{id}" and message in problem.message
    assert problem.place is not None and problem.place.line == 3


def test_changes_are_checked_one_after_another(tmp_path: Path) -> None:
    """A jitter of 30 ms fits a delay of 40 ms and not the declared one, to which `reset` returns."""
    longer, jitter = "{at: 1 s, set: [1, 2], delay: 40 ms}", "{at: 3 s, set: [1, 2], jitter: 30 ms}"
    assert len(_expand(tmp_path, jitter, longer)) == 2
    with pytest.raises(ScenarioInvalid, match="1 problem"):
        _expand(tmp_path, jitter, longer, "{at: 2 s, reset: all}")


def test_what_no_link_can_do_says_what_helps(tmp_path: Path) -> None:
    hint = "write a burst of at least 9, or a mean of at most 66.66 %"
    ramp = "{from: 1 s, to: 2 s, ramp: [1, 2], loss: [1 %, {mean: 90 %, burst: 2}], steps: 2}"
    for entry in ("{at: 1 s, set: [1, 2], loss: {mean: 90 %, burst: 2}}", ramp):
        with pytest.raises(ScenarioInvalid) as caught:
            _expand(tmp_path, entry)
        assert [problem.hint for problem in caught.value.problems] == [hint]
    with pytest.raises(ScenarioInvalid) as caught:
        _expand(tmp_path, "{at: 1 s, set: [1, 2], queue: codel}")
    assert [problem.hint for problem in caught.value.problems] == [
        "write for example `rate: 100 Mbit` as well"
    ]


@pytest.mark.parametrize(
    ("faults", "message", "hint"),
    [
        ("pause start", "at 2 s node 1 is paused, and `start` does not go with that", "unpause"),
        ("stop pause", "at 2 s node 1 is stopped, and `pause` does not go with that", "start"),
        ("pause kill unpause", "at 3 s node 1 is stopped, and `unpause` does not go with that", "start"),
        ("start unpause pause pause kill stop start start pause unpause", "", ""),
    ],
)
def test_faults_of_a_node_are_checked_one_after_another(
    tmp_path: Path, faults: str, message: str, hint: str
) -> None:
    entries = [f"{{at: {at} s, node: 1, do: {do}}}" for at, do in enumerate(faults.split(), start=1)]
    entries = ["{at: 1 s, node: 2, do: stop}", *reversed(entries), "{at: 12 s, node: 2, do: start}"]
    if not message:
        assert len(_expand(tmp_path, *entries)) == len(entries)
        return
    with pytest.raises(ScenarioInvalid) as caught:
        _expand(tmp_path, *entries)
    (problem,) = caught.value.problems
    assert (problem.id, problem.message) == ("scenario.timeline-node", message)
    assert problem.place is not None and problem.place.line == 4  # the last fault stands first
    assert problem.hint == f"`do: {hint}` comes first"


def test_a_repeated_fault_is_noted_once(tmp_path: Path) -> None:
    with pytest.raises(ScenarioInvalid, match="1 problem"):
        _expand(
            tmp_path, "{at: 1 s, node: db, do: kill}", "{every: 1 s, from: 2 s, to: 9 s, node: 3, do: pause}"
        )


def test_a_longer_time_limit_of_the_run_allows_later_changes(tmp_path: Path) -> None:
    read = _load(tmp_path, "{at: 70 s, heal: true}")
    assert len(read.resolve(RING, timeout_s=80.0).timeline) == 1


def test_a_scenario_without_a_timeline_changes_nothing(tmp_path: Path) -> None:
    assert _expand(tmp_path) == ()


def _load(tmp_path: Path, *entries: str) -> scenario.Scenario:
    folder = tmp_path / "t"
    folder.mkdir(exist_ok=True)
    lines = ["roles: {a: {nodes: 1}}", "timeline:" if entries else "", *(f"  - {entry}" for entry in entries)]
    (folder / "scenario.yaml").write_text("\n".join(lines))
    (folder / "roles.py").write_text("def a(ctx): ...")
    return scenario.load(folder)


def _expand(tmp_path: Path, *entries: str) -> tuple[TimelineChange, ...]:
    changes = _load(tmp_path, *entries).resolve(RING).timeline
    assert all(re.fullmatch(r"timeline of t(: \w+)?", each.cause) for each in changes)
    return changes
