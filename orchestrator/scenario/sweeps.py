"""The runs of a sweep: the product of the values of its keys, each repeated, in a shuffled order.

    --sweep defaults.link.loss=0,1%,5% --sweep mode=plain,raptorq --repeat 10

A key is a parameter of the scenario, or else a path in the topology file as behind `--set`. The seed of a
repetition follows from the sweep's seed and its number alone, so that it stays the same when values or
repetitions are added, and the same repetition of all combinations draws the same.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from orchestrator.errors import Place, UsageError, nearest_hint, quoted
from orchestrator.scenario.model import Scenario
from orchestrator.scenario.params import ParamInvalid
from orchestrator.topology.language import ROOT

__all__ = [
    "MAX_RUNS",
    "Axis",
    "Combination",
    "SweepRun",
    "combinations",
    "ordered_runs",
    "read_axes",
    "repetition_seed",
    "split_values",
]

MAX_RUNS = 100_000
"""Runs of a sweep; more of them are a mistake in a range of values."""

_OPEN, _CLOSE = "[{(", ")}]"


@dataclass(frozen=True)
class Axis:
    """A key of a sweep and its values, as they were written."""

    key: str
    kind: Literal["param", "topology"]
    values: tuple[str, ...]


@dataclass(frozen=True)
class Combination:
    """One value for each key; `number` counts from 1 in the order of the product."""

    number: int
    values: Mapping[str, str]

    def of_kind(self, axes: Iterable[Axis], kind: str) -> dict[str, str]:
        """The values of the keys that are parameters, or of those in the topology."""
        return {axis.key: self.values[axis.key] for axis in axes if axis.kind == kind}


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep."""

    combination: Combination
    repetition: int
    seed: int

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"c{self.combination.number:02d}-r{self.repetition}"


def read_axes(
    words: Sequence[str] | Mapping[str, Sequence[object]], scenario: Scenario, params: Iterable[str] = ()
) -> tuple[Axis, ...]:
    """Read what stood behind each `--sweep`.

    Args:
        words: Each `key=value,value`; or the values of each key, from Python.
        scenario: Its parameters come before keys of the topology.
        params: Parameters that have a fixed value.

    Raises:
        UsageError: A word has no key or no value, a key or a value comes twice, a key is unknown, or a value
            does not fit its parameter. Values of the topology are checked when it is read.
    """
    axes: dict[str, Axis] = {}
    fixed = set(params)
    for key, values, place in _written(words):
        if key in axes or key in fixed:
            other = "another `--sweep`" if key in axes else "`--param`"
            raise UsageError(
                f"`{key}` has values from {other} as well", id="sweep.twice", place=place, found=key
            )
        if len(set(values)) < len(values):
            again = next(value for value in values if values.count(value) > 1)
            raise UsageError(
                f"`{again}` is there twice",
                id="sweep.twice",
                place=place,
                found=again,
                hint="`--repeat N` repeats runs",
            )
        axes[key] = Axis(key, _kind(key, scenario, place), values)
        if axes[key].kind == "param":
            _check_values(axes[key], scenario, place)
    return tuple(axes.values())


def _written(
    words: Sequence[str] | Mapping[str, Sequence[object]],
) -> Iterator[tuple[str, tuple[str, ...], Place]]:
    """The key, the values and the place of each word.

    Raises:
        UsageError: A word has no key or no value.
    """
    if isinstance(words, Mapping):
        found = [
            (key, tuple(map(_as_text, values)), f"{key}={list(values)}") for key, values in words.items()
        ]
    else:
        parted = [(word.partition("="), word) for word in words]
        found = [(key.strip(), split_values(text), word) for (key, _, text), word in parted]
    for key, values, word in found:
        if not key or not values or not all(values):
            raise UsageError(
                f"`--sweep {word}` is no key with values",
                id="sweep.form",
                found=word,
                expected="--sweep KEY=A,B,C",
                hint="for example `--sweep defaults.link.loss=0,1%,5%`",
            )
        yield key, values, Place(f"--sweep {word}")


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def split_values(text: str) -> tuple[str, ...]:
    """Split at commas, but not within brackets or quotes: `[1, 2],3` is two values."""
    parts, depth, quote = [""], 0, ""
    for each in text:
        if quote:
            quote = "" if each == quote else quote
        elif each in "'\"":
            quote = each
        elif each in _OPEN:
            depth += 1
        elif each in _CLOSE:
            depth -= 1
        elif each == "," and depth <= 0:
            parts.append("")
            continue
        parts[-1] += each
    return tuple(part.strip() for part in parts)


def combinations(axes: Sequence[Axis]) -> tuple[Combination, ...]:
    """The product of the values, the last key changing fastest; one without values where there is no key."""
    products = itertools.product(*(axis.values for axis in axes))
    keys = [axis.key for axis in axes]
    return tuple(
        Combination(number, dict(zip(keys, values, strict=True))) for number, values in enumerate(products, 1)
    )


def repetition_seed(seed: int, repetition: int) -> int:
    """The seed of a repetition, whatever else is in the sweep."""
    digest = hashlib.sha256(f"{seed}/repetition/{repetition}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def ordered_runs(
    combined: Sequence[Combination], group_of: Mapping[int, str], repeat: int, seed: int
) -> tuple[SweepRun, ...]:
    """All runs in the order in which they are made: shuffled, but those of one topology together.

    Bringing up a lab takes seconds, as long as many a run, so each topology comes once: the topologies are
    shuffled, and then the runs within each.

    Args:
        combined: The combinations.
        group_of: The topology of each, by number.
        repeat: How often each is run.
        seed: The sweep's seed.

    Raises:
        UsageError: They are too many.
    """
    import random  # reading a scenario needs none

    if len(combined) * repeat > MAX_RUNS:
        raise UsageError(
            f"the sweep has {len(combined) * repeat} runs, but {MAX_RUNS} is the most",
            id="sweep.too-many",
            found=f"{len(combined)} combinations, {repeat} times",
        )
    chance = random.Random(f"{seed}/order")
    groups = list(dict.fromkeys(group_of[each.number] for each in combined))
    chance.shuffle(groups)
    found: list[SweepRun] = []
    for group in groups:
        runs = [
            SweepRun(each, repetition, repetition_seed(seed, repetition))
            for each in combined
            if group_of[each.number] == group
            for repetition in range(1, repeat + 1)
        ]
        chance.shuffle(runs)
        found += runs
    return tuple(found)


def _kind(key: str, scenario: Scenario, place: Place) -> Literal["param", "topology"]:
    if key in scenario.params:
        return "param"
    first = key.partition(".")[0]
    if first in ROOT.fields:
        return "topology"
    known = [*scenario.params, *ROOT.fields]
    raise UsageError(
        f"`{key}` is neither a parameter of the scenario {scenario.name} nor a key of a topology",
        id="sweep.unknown-key",
        place=place,
        found=key,
        expected="a parameter, or a path such as `defaults.link.loss`",
        hint=nearest_hint(key, known, otherwise=f"parameters are {quoted(scenario.params) or 'none'}"),
    )


def _check_values(axis: Axis, scenario: Scenario, place: Place) -> None:
    for value in axis.values:
        try:
            scenario.params[axis.key].read(value)
        except ParamInvalid as error:
            raise UsageError(
                f"{axis.key} is `{value}`, but {error.reason}",
                id="sweep.value",
                place=place,
                found=value,
                expected=error.expected,
                hint=error.hint,
            ) from None
