"""Test changes of links that roles ask for, and what of them is undone after the run."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from orchestrator.controller.errors import LinkNotApplied, LinkUnknown
from orchestrator.controller.run import Run
from orchestrator.controller.timelines import request_for
from orchestrator.errors import NmError
from orchestrator.protocol import messages as m
from tests.controller.test_timelines import FakeLab, a_run, stored

CUT = m.TimelineChange(0, "partition", groups=((1, 2), (3, 4)))


async def test_a_role_makes_changes_where_its_scenario_allows_it_and_while_it_runs(lab: FakeLab) -> None:
    run = lab.begin((), started=True)
    ids: list[str] = []
    numbers = itertools.count(1)

    def done(error: NmError | None) -> None:
        ids.append("" if error is None else error.id)

    change = m.TimelineChange(0, "down", 2, 3, cause="role a in node 1")
    lab.timelines.begin_by_role(run, run.roles[1], next(numbers), change, done)
    assert (ids, lab.made) == (["run.faults"], [])
    run.faults = True
    lab.timelines.plan(run)
    lab.timelines.begin_by_role(run, run.roles[1], next(numbers), change, done)
    await lab.settle()
    assert ids[1:] == [""] and lab.made == [m.SetLinkState(2, 3, True, cause="role a in node 1")]
    lab.failure = LinkNotApplied("not confirmed")
    lab.timelines.begin_by_role(run, run.roles[1], next(numbers), change, done)
    await lab.settle()
    assert ids[2:] == ["link.not-applied"] and lab.stopped == []  # it is the role's to handle
    run.roles[1].state = "finished"
    lab.timelines.begin_by_role(run, run.roles[1], next(numbers), change, done)
    assert ids[3:] == ["run.faults"]
    lab.changed, lab.failure = [(2, 3)], None
    lab.timelines.end(run)
    await lab.settle()
    assert lab.made[-1] == m.SetLinkSpec(2, 3, reset=True, cause="end of run r1")


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("do", ["partition", "heal"])
async def test_a_partition_from_before_the_run_is_in_force_again_after_it(
    lab: FakeLab, do: str, restart: bool
) -> None:
    run, before = a_run(()), ((1,), (3,))
    run.faults, lab.groups = True, before
    lab.timelines.plan(run)
    change = CUT if do == "partition" else m.TimelineChange(0, "heal")
    lab.timelines.begin_by_role(run, run.roles[1], 1, change, lambda _: None)
    lab.timelines.begin_by_role(run, run.roles[1], 2, CUT, lambda _: None)
    await lab.settle()
    assert lab.groups == CUT.groups
    if restart:
        events, lab, run = stored(lab), FakeLab(), a_run((), "stopping")
        lab.groups = CUT.groups
        lab.timelines.restore(run, events, 1_000, {})
    lab.timelines.end(run)
    await lab.settle()
    assert lab.made[-1] == m.Partition(before, "end of run r1")


async def test_a_heal_of_nothing_leaves_nothing_to_undo(lab: FakeLab) -> None:
    run = a_run(())
    run.faults = True
    lab.timelines.plan(run)
    lab.timelines.begin_by_role(run, run.roles[1], 1, m.TimelineChange(0, "heal"), lambda _: None)
    await lab.settle()
    lab.groups = CUT.groups  # by an operator
    lab.timelines.end(run)
    await lab.settle()
    assert lab.groups == CUT.groups


@pytest.mark.parametrize("do", ["node", "explode", ""])
async def test_a_role_changes_nothing_but_links(lab: FakeLab, do: str) -> None:
    run = a_run(())
    run.faults = True
    lab.timelines.plan(run)
    told: list[NmError | None] = []
    lab.timelines.begin_by_role(run, run.roles[1], 1, m.TimelineChange(0, do), told.append)
    await lab.settle()
    (error,) = told
    assert error is not None and error.id == "link.change" and lab.made == []
    with pytest.raises(LinkUnknown):
        request_for(m.TimelineChange(0, do))


async def test_what_a_role_asks_for_is_recorded_first_and_reset_after_a_restart(lab: FakeLab) -> None:
    run = a_run(())
    run.faults = True
    lab.timelines.plan(run)
    lab.hold = asyncio.Event()  # the controller ends before the change is recorded as made
    for number, change in enumerate([m.TimelineChange(0, "down", 3, 2), CUT], start=1):
        lab.timelines.begin_by_role(run, run.roles[1], number, change, lambda _: None)
    assert [kind for kind, _ in lab.events[1:]] == ["timeline_role", "timeline_role", "timeline_partition"]
    assert lab.made == []
    await lab.settle()
    events, later = stored(lab), FakeLab()
    lab.timelines.close()
    later.changed, later.groups = [(2, 3), (3, 4)], CUT.groups
    later.timelines.restore(a_run((), "stopping"), events, 1_000, {})
    await later.settle()
    assert later.made == [m.SetLinkSpec(2, 3, reset=True, cause="end of run r1"), m.Heal("end of run r1")]


async def test_a_change_that_a_role_asks_for_again_is_made_once(lab: FakeLab) -> None:
    run = a_run(())
    run.faults = True
    lab.timelines.plan(run)
    ids: list[str] = []

    def ask(lab: FakeLab, run: Run, number: int) -> None:
        change = m.TimelineChange(0, "down", 2, 3)
        lab.timelines.begin_by_role(
            run, run.roles[1], number, change, lambda error: ids.append("" if error is None else error.id)
        )

    lab.hold = asyncio.Event()
    ask(lab, run, 1)
    ask(lab, run, 1)
    await lab.settle()
    assert ids == [] and len(lab.made) == 1
    lab.hold.set()
    await lab.settle()
    assert ids == ["", ""]
    lab.failure = LinkNotApplied("not confirmed")
    ask(lab, run, 2)
    await lab.settle()
    ask(lab, run, 1)
    ask(lab, run, 2)
    assert ids[2:] == ["link.not-applied", "", "link.not-applied"] and len(lab.made) == 2
    later, run = FakeLab(), a_run(())
    later.timelines.restore(run, stored(lab), 1_000, {})
    ask(later, run, 1)
    ask(later, run, 2)
    assert ids[5:] == ["", "link.not-applied"]
    ask(later, run, 3)
    await later.settle()
    assert len(ids) == 8 and len(later.made) == 1


@pytest.fixture
def lab() -> FakeLab:
    return FakeLab()
