"""Test the state file of a lab."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator import procfs
from orchestrator.deploy import state
from orchestrator.deploy.home import Home, LabDirectory
from orchestrator.deploy.state import LabState, NodeNote
from orchestrator.procfs import ProcessId


@pytest.fixture
def lab(tmp_path: Path) -> LabDirectory:
    directory = Home(tmp_path).lab("ring")
    directory.create()
    return directory


def note() -> LabState:
    return LabState(
        lab="ring",
        backend="native",
        run="r1",
        phase="starting",
        owner=procfs.this_process(),
        topology="ring.yaml",
        digest="abc",
        controller_port=20123,
        created="2026-01-01T00:00:00.000Z",
        nodes=(NodeNote(1, "a", "10.0.0.1", False, "/x/node-1.toml"),),
        links=((1, 2),),
        parts={"host": ProcessId(3, 4)},
    )


def test_what_is_written_is_read_back(lab: LabDirectory) -> None:
    state.write(lab, note())
    assert state.read(lab) == note()
    assert lab.state_file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 99}', '{"format": 1, "lab": "x"}', "null"])
def test_a_note_that_makes_no_sense_is_no_note(lab: LabDirectory, text: str) -> None:
    lab.state_file.write_text(text)
    assert state.read(lab) is None


def test_a_half_started_lab_is_owned_as_long_as_its_up_runs() -> None:
    starting = note()
    assert not starting.owner_gone()
    assert replace(starting, owner=ProcessId(1, 1)).owner_gone()
    assert not replace(starting, phase="up", owner=None).owner_gone()


def test_a_node_is_found_by_its_id() -> None:
    assert note().node(1).name == "a"
    with pytest.raises(KeyError):
        note().node(2)


def test_a_note_from_before_the_machine_was_started_knows_no_process(
    lab: LabDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    state.write(lab, note())
    monkeypatch.setattr(state, "boot_id", lambda: "another")
    assert state.read(lab) == replace(note(), owner=None, parts={})
