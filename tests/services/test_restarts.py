"""Restart policies of services, as container engines have them."""

from __future__ import annotations

import pytest

from orchestrator.services import Restarts


@pytest.mark.parametrize(
    ("policy", "exit_code", "again"),
    [
        ("no", 0, False),
        ("no", 1, False),
        ("on-failure", 0, False),
        ("on-failure", 1, True),
        ("always", 0, True),
        ("always", 1, True),
        ("unless-stopped", 0, True),
    ],
)
def test_the_policy_decides_by_the_exit_code(policy: str, exit_code: int, again: bool) -> None:
    assert (Restarts(policy).ended(exit_code, 1.0) is not None) is again


def test_pauses_double_up_to_a_minute_and_begin_anew_after_ten_seconds_of_running() -> None:
    restarts = Restarts("always")
    assert [restarts.ended(1, 0.0) for _ in range(4)] == [0.1, 0.2, 0.4, 0.8]
    assert [restarts.ended(1, 0.0) for _ in range(20)][-1] == 60.0
    assert restarts.ended(1, 10.0) == 0.1


def test_the_number_of_restarts_is_limited_where_the_policy_says_so() -> None:
    restarts = Restarts("on-failure:2")
    assert [restarts.ended(1, 0.0) is not None for _ in range(3)] == [True, True, False]
    assert (restarts.count, restarts.deaths) == (2, 3)
    restarts.forget()
    assert restarts.ended(1, 0.0) == 0.1


def test_a_service_that_was_ready_has_not_died_without_becoming_ready() -> None:
    restarts = Restarts("always")
    restarts.ended(1, 0.0)
    restarts.ready()
    assert restarts.deaths == 0
