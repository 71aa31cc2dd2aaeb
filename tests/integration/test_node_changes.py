"""Test labs that grow and shrink while they carry packets."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator import render, topology
from orchestrator.deploy import state as notes
from orchestrator.deploy.home import Home
from orchestrator.errors import NmError, UsageError
from orchestrator.lab import Lab, planned_change
from orchestrator.lab import changes as lab_changes
from orchestrator.settings import load_controller
from orchestrator.testing.plugin import Labs
from orchestrator.topology import Topology
from tests.integration.conftest import Nm
from tests.integration.services import need

FOUR = "name: grows\ntopology: {type: ring, n_nodes: 4}\ndefaults: {link: {delay: 2 ms}}\n"
SIX = FOUR.replace("4", "6")


def meant(text: str) -> Topology:
    return topology.loads(text, "grows.yaml")


@pytest.fixture(scope="module")
def lab(home: Home) -> Iterator[Lab]:
    """One lab for all tests of this file."""
    labs = Labs(home)
    try:
        yield labs.up(meant(FOUR))
    finally:
        labs.end()


@pytest.fixture
def nm(home: Home, tmp_path: Path) -> Nm:
    """`nm` with the home of the lab that the tests share."""
    return Nm(home, tmp_path)


@pytest.fixture(autouse=True)
def four(lab: Lab) -> Iterator[None]:
    """After each test, the lab is the ring of four again."""
    yield
    lab.apply(meant(FOUR), force=True)
    assert lab.status().state == "ready"


def ping(lab: Lab, start: int, target: str) -> bool:
    return lab.node(start).run(["ping", "-c", "1", "-W", "2", target]).ok


class Pinging:
    """Pings from one node to another every 5 ms until it is ended."""

    def __init__(self, lab: Lab, start: int, end: int, packets: int) -> None:
        self._words = ["ping", "-q", "-i", "0.005", "-c", str(packets), "-W", "2", f"10.0.0.{end}"]
        self._node = lab.node(start)
        self.said = ""
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self.said = self._node.run(self._words).stdout

    def __enter__(self) -> Pinging:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(60)


def test_a_ring_grows_and_shrinks_while_others_lose_no_packet(lab: Lab, nm: Nm, tmp_path: Path) -> None:
    need("ping")
    (tmp_path / "six.yaml").write_text(SIX)
    (tmp_path / "four.yaml").write_text(FOUR)
    assert nm("plan", "six.yaml", "--exit-code").code == 2
    with Pinging(lab, 1, 4, 600) as pinging:  # over the link that goes
        grown = nm("up", "six.yaml")
        assert grown.code == 0 and "+ node 5" in grown.err and "- link 1–4" in grown.err
        assert nm("status", "-o", "json").json["state"] == "ready"
    assert "600 received, 0% packet loss" in pinging.said, pinging.said
    assert nm("plan", "six.yaml", "--exit-code").code == 0
    assert "already up" in nm("up", "six.yaml").err
    # Names of new nodes resolve in old ones, and the other way round.
    running = Lab.attach(home=Home(lab.directory.parent.parent))
    assert ping(running, 1, "node-5") and ping(running, 5, "node-3")
    with Pinging(lab, 1, 3, 400) as pinging:
        shrunk = nm("up", "four.yaml")
        assert shrunk.code == 0 and "- node 6" in shrunk.err
    assert "400 received, 0% packet loss" in pinging.said, pinging.said
    assert [node["id"] for node in nm("status", "-o", "json").json["nodes"]] == [1, 2, 3, 4]
    assert not (lab.directory / "run" / "node-5.toml").exists()
    assert "node-5" not in (lab.directory / "run" / "hosts").read_text()


def test_nodes_are_added_and_removed_one_by_one_and_numbers_stay(lab: Lab, nm: Nm) -> None:
    added = nm("node", "add", "--name", "extra", "--link", "1,delay=5 ms", "--link", "3", "-o", "json")
    assert added.json == {"id": 5, "name": "extra", "address": "10.0.0.5", "external": False}
    assert nm("exec", 2, "--", "ping", "-c", "1", "-W", "2", "extra").code == 0
    seen = {(x["a"], x["b"]): x for x in nm("link", "show", "5", "-o", "json").json}
    assert seen[1, 5]["forward"]["delay_us"] == 5000 and seen.keys() == {(1, 5), (3, 5)}
    removed = nm("node", "remove", 2)
    assert removed.code == 0 and "- link 2–3" in removed.err
    assert [node["id"] for node in nm("status", "-o", "json").json["nodes"]] == [1, 3, 4, 5]
    assert nm("exec", 3, "--", "ping", "-c", "1", "-W", "2", "10.0.0.1").code == 0
    graph = nm("graph", "--format", "mermaid")
    assert graph.code == 0
    again = nm("node", "add", "--link", "1", "--link", "3")
    assert again.code == 0 and "node 2 (node-2, 10.0.0.2) is ready" in again.err
    for wrong, id in (
        (("node", "add", "3"), "node.exists"),
        (("node", "add", "--link", "9"), "selector.invalid"),
        (("node", "add", "--link", "1,delay=x"), "link.invalid"),
        (("node", "add", "--name", "controller"), "node.name"),
        (("node", "remove", "1,2,3,4,5"), "node.last"),
        (("link", "add", "1", "3", "delay"), "usage"),
        (("link", "remove", "1", "3"), "link.unknown"),
    ):
        said = nm(*wrong, "-o", "json")
        assert said.code == 2, said
        if id != "usage":
            assert said.error["id"] == id


def test_what_uses_a_node_is_named_and_removed_with_it_only_on_request(lab: Lab) -> None:
    new = lab.add_node(links=[1, 3])
    group = lab.groups.create("w", 1)
    lab.groups.join("w", [new])
    routed = topology.loads(
        topology.dump(lab.topology) + f"routes:\n  - {{from: 1, to: 3, path: [1, {new}, 3]}}\n"
    )
    applied = lab.apply(routed)
    assert [(each.kind, each.do) for each in applied.changes] == [("route", "add")]
    with pytest.raises(UsageError, match=r"the route 1 → 3 needs it") as refused:
        lab.node(new).remove()
    assert refused.value.id == "lab.in-use"
    with pytest.raises(UsageError, match=r"node 5 is a member of group \d+ `w`"):
        lab.apply(meant(FOUR))
    assert [node.id for node in lab.nodes] == [1, 2, 3, 4, 5]
    assert lab.status().state == "ready"
    lab.node(new).remove(force=True)
    assert [node.id for node in lab.nodes] == [1, 2, 3, 4]
    assert lab.topology.routes == ()
    left = next(each for each in lab.groups.list() if each.label == "w")
    assert left.members == () and group.label == "w"
    lab.groups.delete("w")


def test_what_cannot_change_live_is_refused_and_nothing_happens(lab: Lab, nm: Nm, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(FOUR + "nodes: {2: {mtu: 1400}}\nseed: 9\n")
    said = nm("plan", "other.yaml", "-o", "json")
    assert {each["what"]: each["live"] for each in said.json["changes"]} == {"node 2": False, "seed": False}
    refused = nm("up", "other.yaml")
    assert refused.code == 2 and "mtu from nothing to 1400" in refused.err and "[lab.differs]" in refused.err
    assert nm("up", "other.yaml", "--dry-run").code == 0
    assert not planned_change.is_interrupted(lab._inner._directory)


def test_a_change_whose_controller_is_killed_in_the_middle_is_completed_by_the_same_command(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = lab_changes._put
    calls: list[int] = []

    async def killing(connection: Any, directory: Any, state: Any, *rest: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            note = notes.read(directory)
            assert note is not None
            os.kill(note.parts["controller"].pid, signal.SIGKILL)
        return await put(connection, directory, state, *rest)

    monkeypatch.setattr(lab_changes, "_put", killing)
    with pytest.raises(NmError):
        lab.apply(meant(SIX))
    monkeypatch.undo()
    assert not planned_change.is_interrupted(lab._inner._directory)  # it was undone
    assert [node.id for node in lab.status().nodes] == [1, 2, 3, 4]
    assert ping(lab, 1, "node-4")
    lab.apply(meant(SIX))
    assert [node.id for node in lab.nodes] == [1, 2, 3, 4, 5, 6]
    assert ping(lab, 5, "node-2") and lab.status().state == "ready"
    assert not planned_change.is_interrupted(lab._inner._directory)


def test_a_command_that_is_killed_is_completed_or_undone_by_the_next(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    async def dying(*_: Any) -> Any:
        raise Killed

    for at in ("_wait", "_with_nodes"):
        for following in (SIX, FOUR):
            monkeypatch.setattr(lab_changes, at, dying if at == "_wait" else _raising(Killed))
            with pytest.raises(Killed):
                lab.apply(meant(SIX))
            monkeypatch.undo()
            assert planned_change.is_interrupted(lab._inner._directory)
            assert "interrupted" in " ".join(lab.status().problems)
            lab.apply(meant(following))
            count = 6 if following == SIX else 4
            assert [node.id for node in lab.status().nodes] == list(range(1, count + 1))
            assert not planned_change.is_interrupted(lab._inner._directory)
            assert ping(lab, 1, f"10.0.0.{count}")
            lab.apply(meant(FOUR))


def test_a_command_that_is_killed_at_the_end_is_completed_or_undone_as_well(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    update = render.update

    def dying(*what: Any, commit: bool) -> None:
        if commit:
            raise Killed
        update(*what, commit=commit)

    for following, count in ((FOUR, 4), (SIX, 6)):
        lab.apply(meant(SIX))
        monkeypatch.setattr(render, "update", dying)
        with pytest.raises(Killed):  # when nodes 5 and 6 are removed already
            lab.apply(meant(FOUR))
        monkeypatch.undo()
        lab.apply(meant(following))
        assert [node.id for node in lab.status().nodes] == list(range(1, count + 1))
        assert ping(lab, 1, f"10.0.0.{count}") and lab.status().state == "ready"


def _raising(error: type[BaseException]) -> Any:
    def fail(*_: Any) -> Any:
        raise error

    return fail


def test_a_restarted_controller_and_host_have_the_nodes_that_were_added(lab: Lab) -> None:
    new = lab.add_node(links={2: {"delay": "1 ms"}})
    note = notes.read(lab._inner._directory)
    assert note is not None
    for role in ("controller", "host"):
        os.kill(note.parts[role].pid, signal.SIGKILL)
    again = Lab.up(lab.topology, name=lab.name, home=Home(lab.directory.parent.parent))
    assert {node.id for node in again.nodes} == {1, 2, 3, 4, new}
    assert again.status().state == "ready" and ping(again, new, "node-4")
    settings = load_controller(lab.directory / "run" / "controller.toml")
    assert len(settings.nodes) == 5


def test_services_follow_the_file_and_those_that_stay_run_on(lab: Lab) -> None:
    def with_services(text: str) -> Topology:
        return meant(FOUR + "services:\n" + text)

    def running() -> dict[str, int]:
        return {f"{x.node}/{x.service}": x.process for x in lab.status().services if x.good}

    one = "  a: {nodes: '1-2', command: sleep 1000}\n"
    lab.apply(with_services(one))
    first = running()
    assert first.keys() == {"1/a", "2/a"} and all(first.values())
    lab.apply(
        with_services("  a: {nodes: '2-3', command: sleep 1000}\n  b: {nodes: 4, command: sleep 900}\n")
    )
    second = running()
    assert second.keys() == {"2/a", "3/a", "4/b"} and second["2/a"] == first["2/a"]
    new = lab.add_node(links=[1])
    assert running() == second
    with pytest.raises(UsageError, match="node 4 is in use: the service b needs it"):
        lab.remove_nodes([4])
    failing = "  a: {nodes: '2-3', command: sleep 1001}\n  c: {nodes: 4, command: 'false'}\n"
    with pytest.raises(NmError, match="service c in node 4"):
        lab.apply(with_services(failing))
    assert running().keys() == second.keys() and [node.id for node in lab.nodes] == [1, 2, 3, 4, new]
    lab.apply(meant(FOUR))
    assert lab.status().services == ()
