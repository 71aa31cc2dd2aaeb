"""Test the selection of labs and nodes."""

from __future__ import annotations

import pytest

from orchestrator.deploy import node_states
from orchestrator.deploy.home import Home
from orchestrator.errors import LabNotFound, UsageError
from orchestrator.lab.find import find_lab, left_out, not_running, require_inside, select_nodes
from tests.lab.conftest import MakeLab


def test_the_only_lab_is_meant(home: Home, make_lab: MakeLab) -> None:
    make_lab("ring")
    assert find_lab(home, None)[1].lab == "ring"
    assert find_lab(home, "ring")[1].lab == "ring"


def test_several_labs_are_listed(home: Home, make_lab: MakeLab) -> None:
    make_lab("ring")
    make_lab("line")
    with pytest.raises(LabNotFound, match="line, ring") as caught:
        find_lab(home, None)
    assert caught.value.id == "lab.ambiguous"


def test_a_name_that_is_not_up_gets_the_nearest(home: Home, make_lab: MakeLab) -> None:
    make_lab("ring")
    with pytest.raises(LabNotFound) as caught:
        find_lab(home, "rign")
    assert caught.value.hint == "did you mean `ring`?"


def test_remains_are_called_so(home: Home, make_lab: MakeLab) -> None:
    directory, _ = make_lab("ring")
    directory.state_file.unlink()
    with pytest.raises(LabNotFound, match="only leftovers"):
        find_lab(home, "ring")


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["1"], [1]),
        (["1,2"], [1, 2]),
        (["1-3"], [1, 2, 3]),
        (["w*"], [2, 3]),
        (["tier=edge"], [2]),
        (["all"], [1, 2]),
        (["trainer", "3"], [1, 3]),
    ],
)
def test_selectors(make_lab: MakeLab, words: list[str], meant: list[int]) -> None:
    assert select_nodes(make_lab()[1], words) == meant


@pytest.mark.parametrize("word", ["9", "nobody", "tier=none", "3-1", "1-9"])
def test_a_selector_that_means_nobody_is_an_error(make_lab: MakeLab, word: str) -> None:
    with pytest.raises(UsageError):
        select_nodes(make_lab()[1], [word])


def test_an_external_node_is_refused_by_name_and_left_out_of_all(make_lab: MakeLab) -> None:
    note = make_lab()[1]
    require_inside(note, [1, 2])
    with pytest.raises(UsageError, match="node 3 of lab ring is external") as refused:
        require_inside(note, [1, 3])
    assert (refused.value.id, refused.value.exit_code) == ("node.external", 2)
    assert "node-3.toml')" in (refused.value.hint or "")
    assert left_out(note, ["all"]) == left_out(note, ["1, all"]) == [3]
    assert left_out(note, ["1-2"]) == []
    with pytest.raises(UsageError, match="every node"):
        require_inside(note, [])


@pytest.mark.parametrize(
    ("words", "left"),
    [
        ("all", {1: "stopped", 2: "paused"}),
        ("1, all", {2: "paused"}),
        ("all,w*", {1: "stopped"}),
        ("1-2", {}),
        ("trainer", {}),
    ],
)
def test_a_stopped_node_is_left_out_of_all_unless_it_is_named(
    make_lab: MakeLab, words: str, left: dict[int, str]
) -> None:
    directory, note = make_lab()
    node_states.record(directory, [1], "stopped")
    node_states.record(directory, [2], "paused")
    assert not_running(directory, note, [words]) == left
