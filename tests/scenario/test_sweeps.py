"""Test the runs of a sweep: keys, values, seeds and order."""

from __future__ import annotations

from itertools import pairwise

import pytest

from orchestrator.errors import UsageError
from orchestrator.scenario import combinations, load, ordered_runs, read_axes, repetition_seed
from orchestrator.scenario.sweeps import split_values

SCENARIO = load("weights-sync")


def test_a_key_is_a_parameter_or_else_a_path_in_the_topology() -> None:
    axes = read_axes(
        ["tree=chain,shortest_path", "defaults.link.loss=0,1%,5%", "links.0.delay=1ms"], SCENARIO
    )
    assert [(axis.key, axis.kind, len(axis.values)) for axis in axes] == [
        ("tree", "param", 2),
        ("defaults.link.loss", "topology", 3),
        ("links.0.delay", "topology", 1),
    ]
    combined = combinations(axes)
    assert len(combined) == 6
    assert combined[1].values == {"tree": "chain", "defaults.link.loss": "1%", "links.0.delay": "1ms"}
    assert combined[1].of_kind(axes, "param") == {"tree": "chain"}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1,2", ("1", "2")),
        ("[1, 2],3", ("[1, 2]", "3")),
        ("{mean: 1 %, burst: 5},0", ("{mean: 1 %, burst: 5}", "0")),
        ("'a,b',c", ("'a,b'", "c")),
        ("1,", ("1", "")),
        ("]1,2", ("]1", "2")),
    ],
)
def test_values_are_split_at_commas_outside_of_brackets_and_quotes(
    text: str, values: tuple[str, ...]
) -> None:
    assert split_values(text) == values


@pytest.mark.parametrize(
    ("words", "id", "part"),
    [
        (["tree"], "sweep.form", "KEY=A,B,C"),
        (["=1"], "sweep.form", ""),
        (["rounds=1,,2"], "sweep.form", ""),
        (["rounds="], "sweep.form", ""),
        (["rounds=1,1"], "sweep.twice", "--repeat"),
        (["rounds=1", "rounds=2"], "sweep.twice", ""),
        (["size=1MB"], "sweep.twice", ""),
        (["tre=chain"], "sweep.unknown-key", "`tree`"),
        (["default.link.loss=1%"], "sweep.unknown-key", ""),
        (["rounds=1,many"], "sweep.value", ""),
        (["rounds=0,1"], "sweep.value", ""),
        (["tree=chain,star"], "sweep.value", "shortest_path"),
    ],
)
def test_a_key_or_value_that_is_wrong_is_said_with_its_option(words: list[str], id: str, part: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_axes(words, SCENARIO, params=["size"])
    assert (caught.value.id, caught.value.exit_code) == (id, 2)
    assert part in f"{caught.value.expected} {caught.value.hint}"


def test_values_from_python_are_written_as_in_a_file() -> None:
    (axis,) = read_axes({"rounds": [1, 2]}, SCENARIO)
    assert (axis.kind, axis.values) == ("param", ("1", "2"))
    (axis,) = read_axes({"defaults.link.down": [True, "a, b"]}, SCENARIO)
    assert axis.values == ("true", "a, b")
    with pytest.raises(UsageError):
        read_axes({"rounds": []}, SCENARIO)


def test_the_seed_of_a_repetition_follows_from_its_number_alone() -> None:
    few, many = read_axes(["rounds=1"], SCENARIO), read_axes(["rounds=3,1,2"], SCENARIO)
    seeds = {
        (run.repetition, run.seed)
        for axes, repeat in ((few, 2), (many, 5))
        for run in ordered_runs(combinations(axes), dict.fromkeys(range(1, 4), "t"), repeat, 7)
    }
    assert seeds == {(number, repetition_seed(7, number)) for number in range(1, 6)}
    assert repetition_seed(7, 1) != repetition_seed(8, 1) and 0 <= repetition_seed(7, 1) < 2**32


def test_the_order_is_shuffled_from_the_seed_and_each_topology_comes_once() -> None:
    axes = read_axes(["defaults.link.delay=1ms,2ms,3ms", "rounds=1,2"], SCENARIO)
    combined = combinations(axes)
    groups = {each.number: each.values["defaults.link.delay"] for each in combined}
    runs = ordered_runs(combined, groups, 5, 7)
    assert sorted(run.name for run in runs) == sorted(
        f"c{c:02d}-r{r}" for c in range(1, 7) for r in range(1, 6)
    )
    assert runs == ordered_runs(combined, groups, 5, 7) != ordered_runs(combined, groups, 5, 8)
    seen = [groups[run.combination.number] for run in runs]
    assert sum(1 for a, b in pairwise(seen) if a != b) == 2
    assert [run.name for run in runs[:10]] != sorted(run.name for run in runs[:10])


def test_a_sweep_that_is_too_large_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        ordered_runs(combinations(()), {1: "t"}, 1_000_000, 1)
    assert caught.value.id == "sweep.too-many"
