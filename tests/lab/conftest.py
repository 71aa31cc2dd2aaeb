"""Fixtures: labs that consist of a state file and sleeping processes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.deploy import processes, state
from orchestrator.deploy.home import Home, LabDirectory
from orchestrator.deploy.state import LabState, NodeNote, Phase
from orchestrator.procfs import ProcessId


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("NM_HOME", str(tmp_path))
    return Home(tmp_path)


MakeLab = Callable[..., tuple[LabDirectory, LabState]]


@pytest.fixture
def make_lab(home: Home) -> MakeLab:
    """Make a lab of three nodes, the third external, in some phase."""

    def make(
        name: str = "ring", phase: Phase = "up", owner: ProcessId | None = None
    ) -> tuple[LabDirectory, LabState]:
        directory = home.lab(name)
        directory.create()
        nodes = [
            NodeNote(1, "trainer", "10.0.0.1", False, str(directory.run / "node-1.toml"), {"tier": "core"}),
            NodeNote(2, "w1", "10.0.0.2", False, str(directory.run / "node-2.toml"), {"tier": "edge"}),
            NodeNote(3, "w2", "10.0.0.3", True, str(directory.run / "node-3.toml")),
        ]
        note = LabState(
            lab=name,
            backend="native",
            run="r1",
            phase=phase,
            owner=owner,
            topology="ring.yaml",
            digest="d",
            controller_port=20_001,
            created="",
            nodes=tuple(nodes),
            links=((1, 2), (2, 3)),
        )
        state.write(directory, note)
        return directory, note

    return make


@pytest.fixture
def sleeper(home: Home, tmp_path: Path) -> Callable[[str], ProcessId]:
    """Start a process with the labels of a lab of that name."""

    def start(lab: str) -> ProcessId:
        log = tmp_path / f"sleeper-{lab}.log"
        code = "import signal; print('set', flush=True); signal.pause()"
        marks = processes.labels(lab, "r1", home.path, "host")
        process = processes.spawn([sys.executable, "-c", code], marks=marks, log=log)
        while "set" not in log.read_text():
            assert process.alive()
        return process

    return start
