"""Check whether a recorded history of reads, writes and compare-and-swaps is linearizable.

A history is linearizable when its operations could have happened one at a time, each at some moment between
its call and its return, with the same results. The check is the search of Wing and Gong (Journal of Parallel
and Distributed Computing 17, 1993) with the memory of configurations that Lowe added (Concurrency and
Computation 29, 2017). It is exact: it neither misses a violation nor reports one that is none.

Keys are checked one by one, which is the same as checking them together (Herlihy and Wing, ACM TOPLAS 12,
1990). An operation whose result is unknown, because its answer was lost, may have happened at any time after
its call, or not at all.

Times are seconds of one clock. Roles of a lab on one machine have one in `time.monotonic`, on both backends.
"""

from __future__ import annotations

import math
import time
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from orchestrator.errors import CheckFailed, UsageError

__all__ = ["HistoryInvalid", "NotLinearizable", "Operation", "Report", "check", "require_linearizable"]

KINDS = ("read", "write", "cas")
LOOK_EVERY = 1024
"""Configurations between two looks at the clock: about 10 ms of searching."""


class HistoryInvalid(UsageError):
    """An operation of a history contradicts itself."""

    id = "history.invalid"


class NotLinearizable(CheckFailed):
    """A history is not linearizable, or this could not be decided within the limits."""

    id = "history.not-linearizable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation on one key.

    Attributes:
        kind: `read`, `write`, or `cas`: write `value` if the key has the value `expected`.
        key: What it was applied to.
        invoked: When it was called, in seconds.
        returned: When its result was there, in seconds; None if that is unknown.
        value: What was read or written; of a `cas` that did not succeed, the other value that it found.
        expected: `cas`: the value that the key had to have.
        succeeded: `cas`: whether it wrote. Of no meaning where the result is unknown.
    """

    kind: Literal["read", "write", "cas"]
    key: str
    invoked: float
    returned: float | None = None
    value: Hashable = None
    expected: Hashable = None
    succeeded: bool = True

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise HistoryInvalid(
                f"an operation on {self.key} is of an unknown kind",
                found=repr(self.kind),
                expected=", ".join(KINDS),
            )
        try:
            hash((self.value, self.expected))
        except TypeError:
            raise HistoryInvalid(
                f"a value of {self.key} cannot be compared by its hash",
                found=f"{self.value!r}, {self.expected!r}",
                expected="texts, numbers or tuples",
            ) from None
        times = (self.invoked, self.invoked if self.returned is None else self.returned)
        if not all(map(math.isfinite, times)) or times[1] < times[0]:
            raise HistoryInvalid(
                f"a {self.kind} of {self.key} returned before its call, or has times that are no numbers",
                found=f"invoked {self.invoked}, returned {self.returned}",
                expected="finite times, the call first",
                hint="times of different clocks cannot be compared",
            )

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Operation:
        """Return the operation in a row that a role reported; fields that are not the class's are left out.

        Raises:
            HistoryInvalid: A field is missing, or the operation contradicts itself.
        """
        names = [name for name in cls.__dataclass_fields__ if name in row]
        try:
            return cls(**{name: row[name] for name in names})
        except TypeError as error:
            raise HistoryInvalid(
                f"a row is no operation: {error}",
                found=", ".join(names) or "none of its fields",
                expected="`kind`, `key`, `invoked`, `returned`, and what the kind needs",
            ) from None

    @property
    def unknown(self) -> bool:
        """Whether it is unknown if it happened."""
        return self.returned is None

    def applied_to(self, value: Hashable) -> tuple[bool, Hashable]:
        """Return whether its result fits a key that has this value, and the value afterwards."""
        if self.kind == "write":
            return True, self.value
        if self.kind == "read":
            return value == self.value, value
        if self.succeeded or self.unknown:
            return value == self.expected, self.value
        return value == self.value and value != self.expected, value

    @property
    def only_looks(self) -> bool:
        """Whether it leaves the value as it is."""
        return self.kind == "read" or (self.kind == "cas" and not self.succeeded and not self.unknown)

    @property
    def observed(self) -> Hashable:
        """The value that it has to find; None for a write, which finds any."""
        if self.kind == "cas" and not self.only_looks:
            return self.expected
        return self.value if self.only_looks else None

    def __str__(self) -> str:
        said = {
            "read": f"read {self.value!r}",
            "write": f"write {self.value!r}",
            "cas": f"cas {self.expected!r} → {self.value!r}"
            if not self.only_looks
            else f"cas that expected {self.expected!r} and found {self.value!r}",
        }[self.kind]
        until = "unknown" if self.returned is None else f"{self.returned:.6f} s"
        return f"{said}, from {self.invoked:.6f} s to {until}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a check found.

    Attributes:
        linearizable: None if the limits ended the search before it was decided.
        keys: How many keys the history has.
        operations: How many operations it has.
        unknown: How many of these have no known result.
        configurations: How many the search looked at.
        seconds: How long the check took.
        key: The key that is not linearizable, or was not decided.
        reason: Why, in words; empty for a linearizable history.
    """

    linearizable: bool | None
    keys: int
    operations: int
    unknown: int
    configurations: int
    seconds: float
    key: str = ""
    reason: str = ""


def check(
    history: Iterable[Operation],
    *,
    initial: Hashable = None,
    limit_s: float = 60.0,
    max_configurations: int = 5_000_000,
) -> Report:
    """Check a history, key by key, and stop at the first key that is not linearizable.

    Args:
        history: The operations, in any order.
        initial: What every key has at first.
        limit_s: How long the check may take, in seconds.
        max_configurations: How many configurations it may look at, over all keys. Each takes about 200 bytes.
    """
    start = time.monotonic()
    by_key: dict[str, list[Operation]] = {}
    for each in history:
        by_key.setdefault(each.key, []).append(each)
    limits = _Limits(start + limit_s, max_configurations)
    outcome: tuple[bool | None, str, str] = (True, "", "")
    for key in sorted(by_key):
        linearizable, reason = _Search(by_key[key], initial, limits).run()
        if not linearizable and outcome[0] is not False:
            outcome = (linearizable, key, reason)
        if linearizable is False:
            break
    operations = [each for group in by_key.values() for each in group]
    return Report(
        linearizable=outcome[0],
        keys=len(by_key),
        operations=len(operations),
        unknown=sum(each.unknown for each in operations),
        configurations=limits.used,
        seconds=time.monotonic() - start,
        key=outcome[1],
        reason=outcome[2],
    )


def require_linearizable(history: Iterable[Operation], *, initial: Hashable = None) -> Report:
    """Check a history as `check` does, and raise unless it is linearizable.

    Raises:
        NotLinearizable: It is not, or the limits ended the search.
    """
    report = check(history, initial=initial)
    if report.linearizable:
        return report
    said = "is not linearizable" if report.linearizable is False else "could not be decided"
    raise NotLinearizable(f"the history of key {report.key} {said}: {report.reason}", found=report.reason)


@dataclass(slots=True)
class _Limits:
    """How much may still be searched, over all keys."""

    deadline: float
    most: int
    used: int = 0

    def reached(self) -> bool:
        self.used += 1
        if self.used > self.most:
            return True
        return self.used % LOOK_EVERY == 0 and time.monotonic() > self.deadline


@dataclass(frozen=True, slots=True)
class _Configuration:
    """A point of the search: which operations have been put in order, and the value after them.

    `base` counts the known operations, by their call, that all are in order; bit i of `beyond` stands for the
    one at `base + i`. Bit i of `open` stands for the unknown operation i.
    """

    base: int
    beyond: int
    open: int
    value: Hashable


class _Search:
    """The search for an order of the operations on one key."""

    def __init__(self, operations: list[Operation], initial: Hashable, limits: _Limits) -> None:
        ordered = sorted(operations, key=lambda each: each.invoked)
        self._known = [each for each in ordered if not each.unknown]
        self._returns = [each.returned or 0.0 for each in self._known]
        # An unknown operation that wrote a value which nobody found may as well not have happened: in any
        # order another write follows before anybody looks, so the order holds without it.
        found = {each.observed for each in ordered if each.kind != "write"}
        self._open = [
            each for each in ordered if each.unknown and each.kind != "read" and each.value in found
        ]
        self._initial = initial
        self._limits = limits
        self._deepest = _Configuration(0, 0, 0, initial)

    def run(self) -> tuple[bool | None, str]:
        """Return whether there is an order, and why there is none or it is not known."""
        start = self._deepest = self._looks_passed(_Configuration(0, 0, 0, self._initial))
        seen = {start}
        stack = [(start, self._next(start))]
        while stack:
            here, following = stack[-1]
            if here.base == len(self._known):
                return True, ""
            after = next(following, None)
            if after is None:
                stack.pop()
                continue
            if self._limits.reached():
                return None, f"the limits ended the search after {self._limits.used} configurations"
            if after not in seen:
                seen.add(after)
                stack.append((after, self._next(after)))
                if _depth(after) > _depth(self._deepest):
                    self._deepest = after
        return False, self._reason()

    def _due(self, at: _Configuration) -> tuple[list[int], float]:
        """Return the known operations that may come next, and the moment before which one has to.

        An operation may come next unless another that is not in order yet returned before it was called.
        """
        due, first_return, index = [], math.inf, at.base
        while index < len(self._known) and self._known[index].invoked <= first_return:
            if not at.beyond >> (index - at.base) & 1:
                due.append(index)
                first_return = min(first_return, self._returns[index])
            index += 1
        return due, first_return

    def _looks_passed(self, at: _Configuration) -> _Configuration:
        """Put all operations in order that may come next, fit, and leave the value as it is.

        That takes no possibility away: an order in which one of them comes later holds with it here as well.
        """
        while True:
            fit = [
                index
                for index in self._due(at)[0]
                if self._known[index].only_looks and self._known[index].applied_to(at.value)[0]
            ]
            if not fit:
                return at
            for index in fit:
                at = _with_known(at, index, at.value)

    def _next(self, at: _Configuration) -> Iterator[_Configuration]:
        """Return what may follow: first the operation that returned first, and unknown ones last."""
        due, first_return = self._due(at)
        for index in sorted(due, key=self._returns.__getitem__):
            fits, value = self._known[index].applied_to(at.value)
            if fits:
                yield self._looks_passed(_with_known(at, index, value))
        for index, each in enumerate(self._open):
            if each.invoked > first_return:
                break
            fits, value = each.applied_to(at.value)
            if fits and not at.open >> index & 1:
                after = _Configuration(at.base, at.beyond, at.open | 1 << index, value)
                yield self._looks_passed(after)

    def _reason(self) -> str:
        """Say where the longest order ends."""
        at = self._deepest
        due, _ = self._due(at)
        first = min(due, key=self._returns.__getitem__)
        others = [str(self._known[index]) for index in due if index != first]
        beside = f"; beside it: {' · '.join(others[:5])}" if others else ""
        return (
            f"no order explains more than {_depth(at)} of {len(self._known)} operations; "
            f"the key then has the value {at.value!r}, and what has to come next is: "
            f"{self._known[first]}{beside}"
        )


def _with_known(at: _Configuration, index: int, value: Hashable) -> _Configuration:
    """Return the configuration after a known operation."""
    base, beyond = at.base, at.beyond | 1 << (index - at.base)
    passed = (~beyond & beyond + 1).bit_length() - 1  # how many of the lowest bits are set
    return _Configuration(base + passed, beyond >> passed, at.open, value)


def _depth(at: _Configuration) -> int:
    """How many known operations are in order."""
    return at.base + at.beyond.bit_count()
