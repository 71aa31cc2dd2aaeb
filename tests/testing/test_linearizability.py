"""The check of histories: known cases, a slow model beside it, and its limits."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Hashable, Sequence
from typing import Any

import pytest

from orchestrator.testing.linearizability import (
    HistoryInvalid,
    NotLinearizable,
    Operation,
    check,
    require_linearizable,
)


def op(kind: Any, invoked: float, returned: float | None, value: Hashable, **more: Any) -> Operation:
    return Operation(
        kind=kind, key=more.pop("key", "k"), invoked=invoked, returned=returned, value=value, **more
    )


GOOD = {
    "nothing": [],
    "one after the other": [op("write", 0, 1, "a"), op("read", 2, 3, "a"), op("write", 4, 5, "b")],
    "a read beside a write finds the old value": [op("write", 0, 9, "a"), op("read", 1, 2, None)],
    "a read beside a write finds the new value": [op("write", 0, 9, "a"), op("read", 1, 2, "a")],
    "writes beside each other in either order": [
        op("write", 0, 9, "a"),
        op("write", 0, 9, "b"),
        op("read", 10, 11, "a"),
    ],
    "a lost write that took effect later": [
        op("write", 0, None, "a"),
        op("read", 5, 6, None),
        op("read", 7, 8, "a"),
    ],
    "a lost write that never took effect": [op("write", 0, None, "a"), op("read", 5, 6, None)],
    "a lost read": [op("read", 0, None, None), op("write", 1, 2, "a")],
    "a cas that found its value": [op("write", 0, 1, "a"), op("cas", 2, 3, "b", expected="a")],
    "a cas that found another": [
        op("write", 0, 1, "a"),
        op("cas", 2, 3, "a", expected="x", succeeded=False),
        op("read", 4, 5, "a"),
    ],
    "a lost cas that somebody saw": [op("cas", 0, None, "a", expected=None), op("read", 5, 6, "a")],
    "the moment of return belongs to both": [op("write", 0, 1, "a"), op("read", 1, 2, None)],
}
BAD = {
    "a stale read": [op("write", 0, 1, "a"), op("write", 2, 3, "b"), op("read", 4, 5, "a")],
    "a lost update": [op("write", 0, 1, "a"), op("read", 2, 3, None)],
    "a value from nowhere": [op("read", 0, 1, "a")],
    "a value from the future": [op("read", 0, 1, "a"), op("write", 2, 3, "a")],
    "a value that goes and comes back": [
        op("write", 0, 9, "a"),
        op("read", 1, 2, "a"),
        op("read", 3, 4, None),
    ],
    "two cas that both won": [
        op("cas", 0, 9, "a", expected=None),
        op("cas", 0, 9, "b", expected=None),
    ],
    "a cas that did not find what was there": [
        op("write", 0, 1, "a"),
        op("cas", 2, 3, "a", expected="a", succeeded=False),
    ],
    "two sides that each have a value of their own": [
        op("write", 0, 1, "left"),
        op("write", 0, 1, "right"),
        op("read", 2, 3, "left"),
        op("read", 2, 3, "right"),
        op("read", 4, 5, "left"),
        op("read", 6, 7, "right"),
    ],
}


@pytest.mark.parametrize("name", GOOD)
def test_histories_that_are_linearizable(name: str) -> None:
    assert check(GOOD[name]).linearizable is True


@pytest.mark.parametrize("name", BAD)
def test_histories_that_are_not(name: str) -> None:
    report = check(BAD[name])
    assert (report.linearizable, report.key) == (False, "k")
    assert "no order explains more than" in report.reason
    with pytest.raises(NotLinearizable, match="the history of key k is not linearizable"):
        require_linearizable(BAD[name])


def test_keys_are_independent_and_the_one_that_is_not_linearizable_is_named() -> None:
    good = [op("write", 0, 1, "a", key="good"), op("read", 2, 3, "a", key="good")]
    bad = [op("read", 0, 1, "a", key="bad")]
    report = check([*good, *bad])
    assert (report.linearizable, report.key, report.keys, report.operations) == (False, "bad", 2, 3)


def test_the_reason_names_the_operation_that_cannot_follow() -> None:
    assert (
        "the key then has the value 'b', and what has to come next is: read 'a', from 4"
        in check(BAD["a stale read"]).reason
    )


def test_the_search_agrees_with_all_orders_tried_one_by_one() -> None:
    """Thousands of small random histories; about half of them are not linearizable."""
    chance = random.Random(3)
    found = {True: 0, False: 0}
    for _ in range(3000):
        history = [random_operation(chance) for _ in range(chance.randint(1, 6))]
        expected = any(holds(order) for order in orders(history))
        assert check(history).linearizable is expected, history
        found[expected] += 1
    assert min(found.values()) > 500, found


def test_a_long_history_of_a_real_register_is_checked_in_seconds_and_one_stale_read_in_it_is_found() -> None:
    history = simulated(random.Random(5), clients=12, operations=2500, lost=0.02)
    start = time.monotonic()
    report = check(history)
    assert report.linearizable is True and report.unknown > 20
    reads = [index for index, each in enumerate(history) if each.kind == "read" and each.returned]
    middle = history[reads[len(reads) // 2]]
    assert middle.returned is not None
    stale = op("read", middle.returned, middle.returned, "never written")
    assert check([*history, stale]).linearizable is False
    old = next(each.value for each in history if each.kind == "write" and each.returned)
    stale = op("read", history[-1].invoked + 100, history[-1].invoked + 101, old)
    assert check([*history, stale]).linearizable is False
    assert time.monotonic() - start < 10


def test_limits_end_a_search_undecided() -> None:
    # Sixteen writes beside each other, and a cas that none of their orders allows.
    writes = [op("write", 0, 9, number) for number in range(16)]
    impossible = [*writes, op("read", 10, 11, 3), op("read", 12, 13, 4)]
    report = check(impossible, max_configurations=1000)
    assert (report.linearizable, report.key) == (None, "k")
    assert "the limits ended the search after 1001 configurations" in report.reason
    assert check(impossible, limit_s=0.05).linearizable is None
    with pytest.raises(NotLinearizable, match="is not linearizable"):
        require_linearizable(BAD["a lost update"])


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"kind": "append", "key": "k", "invoked": 0.0}, "unknown kind"),
        ({"kind": "read", "key": "k", "invoked": 2.0, "returned": 1.0}, "returned before its call"),
        ({"kind": "read", "key": "k", "invoked": float("nan")}, "times that are no numbers"),
        ({"kind": "read", "key": "k", "invoked": None}, "no operation"),
        ({"kind": "read", "key": "k", "invoked": 0.0, "value": [1]}, "compared by its hash"),
        ({"state": "complete"}, "no operation"),
    ],
)
def test_rows_that_are_no_operations(row: dict[str, Any], words: str) -> None:
    with pytest.raises(HistoryInvalid, match=words) as caught:
        Operation.from_row(row)
    assert caught.value.found and caught.value.expected


def test_a_row_of_a_run_is_an_operation_whatever_else_it_says() -> None:
    row = {"node": 1, "role": "client", "kind": "cas", "key": "k", "invoked": 0.0, "returned": None}
    assert Operation.from_row({**row, "value": "b", "expected": "a", "term": 3}) == op(
        "cas", 0.0, None, "b", expected="a"
    )


def random_operation(chance: random.Random) -> Operation:
    """An operation of a few values at a few times, whose result may be impossible."""
    invoked = chance.randint(0, 8)
    returned = None if chance.random() < 0.2 else invoked + chance.randint(0, 5)
    kind = chance.choice(("read", "write", "cas"))
    values = (None, "a", "b")
    succeeded = kind != "cas" or chance.random() < 0.7
    return op(
        kind, invoked, returned, chance.choice(values), expected=chance.choice(values), succeeded=succeeded
    )


def orders(history: Sequence[Operation]) -> Any:
    """Every order of the history, with every choice of unknown operations that did not happen."""
    known = [each for each in history if each.returned is not None]
    unknown = [each for each in history if each.returned is None]
    for count in range(len(unknown) + 1):
        for happened in itertools.combinations(unknown, count):
            yield from itertools.permutations([*known, *happened])


def holds(order: Sequence[Operation]) -> bool:
    """Whether an order keeps to real time, and a register that does it gives these results."""
    for earlier, later in itertools.combinations(order, 2):
        if later.returned is not None and later.returned < earlier.invoked:
            return False
    value: Hashable = None
    for each in order:
        if each.kind == "write" or (each.returned is None and each.kind == "cas" and value == each.expected):
            value = each.value
        elif each.returned is None and each.kind == "cas":
            return False  # it has not happened, which is another choice
        elif each.returned is None:
            continue
        elif each.kind == "read":
            if value != each.value:
                return False
        elif each.succeeded:
            if value != each.expected:
                return False
            value = each.value
        elif value != each.value or value == each.expected:
            return False
    return True


def simulated(chance: random.Random, *, clients: int, operations: int, lost: float) -> list[Operation]:
    """A history of clients that use one register, each operation taking effect at a random moment."""
    free = [0.0] * clients
    calls = []
    for number in range(operations):
        client = min(range(clients), key=free.__getitem__)
        invoked = free[client] + chance.random()
        takes_effect = invoked + chance.random()
        returned = takes_effect + chance.random()
        free[client] = returned
        calls.append((takes_effect, invoked, returned, number))
    value: Hashable = None
    history = []
    for _, invoked, returned, number in sorted(calls):
        kind, known = chance.choice(("read", "read", "write", "cas")), chance.random() >= lost
        end = returned if known else None
        if kind == "read":
            history.append(op("read", invoked, end, value))
        elif kind == "write":
            happened = known or chance.random() < 0.5
            history.append(op("write", invoked, end, number))
            value = number if happened else value
        else:
            expected = value if chance.random() < 0.5 else "other"
            succeeded = value == expected
            history.append(
                op(
                    "cas",
                    invoked,
                    end,
                    number if succeeded or not known else value,
                    expected=expected,
                    succeeded=succeeded,
                )
            )
            value = number if succeeded else value
    return sorted(history, key=lambda each: each.invoked)
