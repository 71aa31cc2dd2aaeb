"""Test that a host process closes, opens, pauses and resumes its nodes as the lab's file says."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.node import dataplane
from orchestrator.node.node_states import NodeStates
from orchestrator.node.nodes import Nodes
from orchestrator.node.options import parse
from orchestrator.node_states import read

Opened = dict[int, Any]


def test_nodes_follow_the_file_and_no_other_node_is_touched(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(tmp_path, {2: "stopped"})
    nodes = Nodes()
    for number in (1, 2, 3):
        nodes._namespaces[number] = number
    states = NodeStates(parse(["--directory", str(tmp_path), "--nodes", "1-3"]), nodes)
    states.apply()
    assert nodes.ids() == [1, 3]
    first = opened[1]
    say(tmp_path, {3: "paused"})
    states.apply()
    states.apply()
    assert nodes.ids() == [1, 2, 3]
    assert [opened[number].pauses for number in (1, 2, 3)] == [[], [], [True]]
    say(tmp_path, {1: "stopped"})
    states.apply()
    assert nodes.ids() == [2, 3]
    assert first.closed and opened[3].pauses == [True, False]
    say(tmp_path, {})
    states.apply()
    assert nodes.ids() == [1, 2, 3] and opened[1] is not first


def test_nodes_are_added_and_removed_as_the_state_of_the_lab_says(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(tmp_path, {4: "stopped"})
    made: list[int] = []

    def make(nodes: Nodes, numbers: list[int], machines: Path) -> list[str]:
        assert machines == tmp_path / "run" / "machines.json"
        made.extend(numbers)
        nodes._namespaces.update({n: os.open("/dev/null", os.O_RDONLY) for n in numbers})
        nodes._names.update({n: os.open("/dev/null", os.O_RDONLY) for n in numbers})
        return []

    monkeypatch.setattr(Nodes, "make_namespaces", make)
    nodes, told = Nodes(), []
    nodes.changed = lambda: told.append(nodes.numbers)
    make(nodes, [1, 2], tmp_path / "run" / "machines.json")
    given = parse(["--directory", str(tmp_path), "--part", "host-1", "--nodes", "1-2"])
    states = NodeStates(given, nodes, lambda: told.append(["published"]))  # type: ignore[list-item]  # no name of a node
    states.apply()
    assert nodes.ids() == [1, 2] and told == []
    (tmp_path / "state.json").write_text(json.dumps({"carried": {"host-1": [2, 3, 4], "host-2": [9]}}))
    kept = opened[2]
    states.apply()
    states.apply()
    assert made == [1, 2, 3, 4] and nodes.numbers == [2, 3, 4] and nodes.ids() == [2, 3]
    assert told == [["published"], [2, 3, 4]] and opened[2] is kept and opened[1].closed
    (tmp_path / "state.json").write_text("rubbish")
    states.apply()  # as it was started
    assert nodes.numbers == [1, 2]


def test_a_client_has_the_file_applied_and_is_told_of_errors(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 100)  # a path that is longer than a socket's may be
    say(deep, {})
    nodes = Nodes()
    nodes._namespaces[1] = 1
    states = NodeStates(parse(["--directory", str(deep), "--nodes", "1"]), nodes)
    states.apply()
    states.serve()
    say(deep, {1: "stopped"})
    assert ask(deep) == {"error": ""}
    assert nodes.ids() == []

    def refuse(_nodes: object) -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr(dataplane, "open_nodes", refuse)
    say(deep, {})
    assert ask(deep) == {"error": "no room"}
    assert (deep / "run" / "host.sock").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", [None, "", "[]", '{"x": 1}', "{"])
def test_a_file_that_says_nothing_means_that_all_nodes_run(tmp_path: Path, text: str | None) -> None:
    (tmp_path / "run").mkdir()
    if text is not None:
        (tmp_path / "run" / "node-states.json").write_text(text)
    assert read(tmp_path / "run") == {}


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """The dataplanes that were opened last, by node, which are fakes."""
    found: Opened = {}

    def open_nodes(wanted: list[tuple[str, int | None]]) -> list[Any]:
        made = []
        for config, namespace in wanted:
            number = int(Path(config).stem.removeprefix("node-"))
            assert namespace is not None
            fake = SimpleNamespace(node_id=number, pauses=[], closed=False)
            fake.close = lambda fake=fake: setattr(fake, "closed", True)
            found[number] = fake
            made.append(fake)
        return made

    monkeypatch.setattr(dataplane, "open_nodes", open_nodes)
    monkeypatch.setattr(dataplane, "serve_programs", lambda fake, namespace: None)
    monkeypatch.setattr(dataplane, "set_paused", lambda fake, paused: fake.pauses.append(paused))
    return found


def say(directory: Path, states: dict[int, str]) -> None:
    (directory / "run").mkdir(parents=True, exist_ok=True)
    (directory / "run" / "node-states.json").write_text(json.dumps(states))


def ask(directory: Path) -> Any:
    import os

    folder = os.open(directory / "run", os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(f"/proc/self/fd/{folder}/host.sock")
            return json.loads(client.makefile().readline())
    finally:
        os.close(folder)
