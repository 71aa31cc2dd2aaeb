"""Test when parts are restarted, with a manual clock."""

from __future__ import annotations

from orchestrator.supervisor.restarts import DEATHS, FIRST_DELAY_S, WINDOW_S, Restarts


def test_the_first_death_is_followed_by_a_start_at_once() -> None:
    restarts = Restarts()
    assert restarts.ended("host", 10.0) == 0.0
    assert restarts.due(10.0) == ["host"]
    assert restarts.due(10.0) == [], "it is named once for each death"


def test_pauses_double_while_deaths_follow_each_other() -> None:
    restarts = Restarts()
    pauses = [restarts.ended("host", float(second)) for second in range(DEATHS - 1)]
    assert pauses == [0.0, FIRST_DELAY_S, 2 * FIRST_DELAY_S, 4 * FIRST_DELAY_S]


def test_a_part_is_due_when_its_pause_is_over_and_not_before() -> None:
    restarts = Restarts()
    restarts.ended("host", 0.0)
    restarts.due(0.0)
    restarts.ended("host", 1.0)
    assert restarts.next_due() == 1.0 + FIRST_DELAY_S
    assert restarts.due(1.0 + FIRST_DELAY_S - 0.01) == []
    assert restarts.due(1.0 + FIRST_DELAY_S) == ["host"]
    assert restarts.next_due() is None


def test_a_part_that_fails_too_often_within_the_window_is_not_restarted() -> None:
    restarts = Restarts()
    for number in range(DEATHS - 1):
        assert restarts.ended("controller", WINDOW_S / DEATHS * number) is not None
    assert restarts.ended("controller", WINDOW_S - 0.1) is None
    assert restarts.left_dead == ["controller"]
    assert restarts.due(10 * WINDOW_S) == [], "a start that was due before is given up as well"


def test_as_many_failures_over_a_longer_time_do_not_stop_restarts() -> None:
    restarts = Restarts()
    step = WINDOW_S / (DEATHS - 1) + 0.1
    assert all(restarts.ended("host", step * number) is not None for number in range(100))
    assert restarts.left_dead == []


def test_parts_do_not_count_for_each_other() -> None:
    restarts = Restarts()
    for number in range(DEATHS):
        restarts.ended("controller", float(number))
    assert restarts.ended("host", float(DEATHS)) == 0.0
    assert restarts.left_dead == ["controller"]
    assert restarts.due(float(DEATHS)) == ["host"]
