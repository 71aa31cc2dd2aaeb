"""Test the tests of a lab: verdicts, attempts and time limits, with nodes that are not there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from orchestrator import topology
from orchestrator.deploy import node_states
from orchestrator.deploy.state import LabState, NodeNote
from orchestrator.errors import UsageError
from orchestrator.lab.commands import Completed
from orchestrator.lab.lab_tests import LabTestResult, junit, probes, run_lab_tests
from orchestrator.lab.lab_tests.files import find_tests
from orchestrator.lab.lab_tests.runner import run_one
from orchestrator.topology import LabTest

from .conftest import MakeLab

RING = "name: ring\ntopology: {type: ring, n_nodes: 4}\n"


class FakeNodes:
    """Nodes that answer what a test says.

    Args:
        state: The note of a lab.
        answers: What a function of `probes` returns, by its name; called with its options if it can be.
        completed: How a command ends.
    """

    def __init__(
        self, state: LabState, answers: Mapping[str, Any] | None = None, completed: Completed | None = None
    ) -> None:
        self.state, self._answers, self._completed = state, answers or {}, completed
        self.asked: list[tuple[str, int]] = []

    def node(self, number: int) -> NodeNote:
        return self.state.node(number)

    def addresses(self, nodes: Sequence[int]) -> list[tuple[int, str]]:
        return [(number, f"10.0.0.{number}") for number in nodes]

    async def run(self, node: int, argv: Sequence[str]) -> Completed:
        assert self._completed is not None
        return self._completed

    async def probe(self, node: int, kind: str, **options: Any) -> Mapping[str, Any]:
        self.asked.append((kind, node))
        answer = self._answers[kind]
        if callable(answer):
            answer = answer(node, **options)
        return await answer if asyncio.iscoroutine(answer) else answer

    async def measure(
        self, source: int, target: int, kind: str, sender: Mapping[str, Any], receiver: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        return await self.probe(source, kind)


@pytest.fixture
def state(make_lab: MakeLab) -> LabState:
    return make_lab()[1]


@pytest.mark.parametrize(
    ("entry", "answers", "ok", "detail"),
    [
        (
            "{reach: 2, from: 1}",
            {"ping": {"times": [[2, 0.0041]]}},
            True,
            "1 of 1 pair answered, the slowest in 4.1 ms",
        ),
        (
            "{reach: '2-4', from: 1}",
            {"ping": {"times": [[2, 0.1], [3, None], [4, None]]}},
            False,
            "1 of 3 pairs answered: node 3 does not answer node 1; node 4 does not answer node 1",
        ),
        (
            "{tcp: 80, from: 1, to: 2}",
            {"tcp": {"errors": [[2, "connection refused"]]}},
            False,
            "node 1 to port 80 of node 2: connection refused",
        ),
        ("{tcp: 80, from: 1, to: 1}", {"tcp": {"errors": [[1, ""]]}}, True, "port 80 took 1 connection of 1"),
        (
            "{http: 'http://a/', from: 1}",
            {"http": {"status": 503}},
            False,
            "node 1: status 503, 200 is expected",
        ),
        ("{http: 'http://a/', from: 1}", {"http": {"status": 200}}, True, "answered with status 200"),
        (
            "{route: [1, 2, 3]}",
            {"hops": {"hops": ["10.0.0.2", "10.0.0.3"]}},
            True,
            "packets take 1 → 2 → 3",
        ),
        (
            "{route: [1, 2, 3]}",
            {"hops": {"hops": ["10.0.0.3"]}},
            False,
            "packets take 1 → 3, 1 → 2 → 3 is expected",
        ),
        (
            "{route: [1, 2, 3]}",
            {"hops": {"hops": ["10.0.0.2", "", ""]}},
            False,
            "packets end after 1 → 2 → ? → ?, 1 → 2 → 3 is expected",
        ),
        (
            "{throughput: {min: 90 Mbit}, from: 1, to: 2}",
            {"stream": {"bps": 85.5e6}},
            False,
            "from node 1 to node 2 the throughput is 85.5 Mbit, at least 90 Mbit is expected",
        ),
        (
            "{loss: {max: 1 %}, from: 1, to: 2, packets: 100}",
            {"datagrams": {"delays": [1] * 98}},
            False,
            "from node 1 to node 2 the loss of 100 packets is 2 %, at most 1 % is expected",
        ),
        (
            "{delay: {min: 40 ms, max: 42 ms}, from: 1, to: 2}",
            {"datagrams": {"delays": [39_000_000, 41_000_000, 90_000_000]}},
            True,
            "the median delay is 41 ms, at least 40 ms and at most 42 ms",
        ),
        (
            "{delay: {max: 42 ms}, from: 1, to: 2}",
            {"datagrams": {"delays": []}},
            False,
            "no packet from node 1 arrived at node 2",
        ),
    ],
)
async def test_a_verdict_says_what_was_seen_and_expected(
    state: LabState, entry: str, answers: Mapping[str, Any], ok: bool, detail: str
) -> None:
    result = await run_one(_test(entry), FakeNodes(state, answers))
    assert (result.ok, result.detail) == (ok, detail)


@pytest.mark.parametrize(
    ("wanted", "code", "out", "detail"),
    [
        ("", 0, "", "exit code 0"),
        (", output: PONG", 0, "PONG\n", "exit code 0 and the output as expected"),
        (", output: PONG", 0, "PING\n", "node 1: the output is `PING`, `PONG` is expected"),
        (", exit_code: 3", 0, "", "node 1: exit code 0, 3 is expected; it said `no such host`"),
    ],
)
async def test_a_command_is_judged_by_its_end(
    state: LabState, wanted: str, code: int, out: str, detail: str
) -> None:
    done = Completed(1, code, out, "usage\nno such host\n", 0.1)
    result = await run_one(_test(f"{{command: x, node: 1{wanted}}}"), FakeNodes(state, completed=done))
    assert result.detail == detail
    assert result.ok is ("expected;" not in detail and "is expected" not in detail)


async def test_a_test_is_tried_again_until_it_holds(state: LabState) -> None:
    statuses = iter([503, 503, 200])
    nodes = FakeNodes(state, {"http": lambda _node, url: {"status": next(statuses)}})
    result = await run_one(_test("{http: 'http://a/', from: 1, wait: 10 s}"), nodes)
    assert result.ok
    assert result.detail.startswith("answered with status 200 (attempt 3, after ")


async def test_a_test_that_never_ends_is_ended_by_its_timeout(state: LabState) -> None:
    ended: list[bool] = []

    async def never() -> Mapping[str, Any]:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)
        return {}

    nodes = FakeNodes(state, {"http": lambda _node, url: never()})
    result = await run_one(_test("{http: 'http://a/', from: 1, timeout: 100 ms}"), nodes)
    assert (result.ok, result.detail) == (False, "it did not end within its timeout of 0.1 s")
    assert ended == [True]


async def test_nodes_in_which_nothing_runs_fail_the_test_alone(make_lab: MakeLab) -> None:
    directory, note = make_lab()
    node_states.record(directory, [2], "stopped")
    told: list[LabTestResult] = []
    tests = [_test("{command: 'true', node: 3}"), _test("{command: 'true', node: 2}")]
    results = await run_lab_tests(directory, note, tests, told.append)
    assert tuple(told) == results
    assert [each.ok for each in results] == [False, False]
    assert results[0].detail == "node 3 of lab ring is external, and nm runs nothing in it"
    assert results[1].detail.startswith("node 2 of lab ring is stopped by request")


def test_the_tests_of_a_file_are_for_a_lab_of_the_same_nodes(tmp_path: Path) -> None:
    lab = topology.loads(RING)
    file = tmp_path / "other.yaml"
    file.write_text("topology: {type: ring, n_nodes: 5}\ntests: [{reach: all}]\n")
    with pytest.raises(UsageError) as caught:
        find_tests(lab, file)
    assert caught.value.id == "test.lab-differs"
    file.write_text(RING + "tests: [{reach: all}]\n")
    assert [each.name for each in find_tests(lab, file)] == ["reach all"]


@pytest.mark.parametrize("source", [None, "file"])
def test_nothing_to_test_is_an_error(tmp_path: Path, source: str | None) -> None:
    file = tmp_path / "ring.yaml"
    file.write_text(RING)
    with pytest.raises(UsageError, match="has no tests") as caught:
        find_tests(topology.loads(RING), file if source else None)
    assert caught.value.id == "test.none"


def test_junit_counts_and_escapes() -> None:
    results = [
        LabTestResult("a < b", True, "as expected", 0.5),
        LabTestResult("b", False, 'the output is `\x1b[31m\x00`, `"1" & 2` is expected', 1.25),
    ]
    document = junit("ring", results, "2026-01-02T03:04:05Z")
    root = ElementTree.fromstring(document.encode())
    assert (root.tag, root.get("tests"), root.get("failures"), root.get("time")) == (
        "testsuites",
        "2",
        "1",
        "1.750",
    )
    (suite,) = root
    assert (suite.tag, suite.get("name"), suite.get("errors"), suite.get("skipped")) == (
        "testsuite",
        "ring",
        "0",
        "0",
    )
    assert suite.get("timestamp") == "2026-01-02T03:04:05Z"
    first, second = suite
    assert (first.get("name"), first.get("classname"), first.find("failure")) == ("a < b", "ring", None)
    failure = second.find("failure")
    assert failure is not None and failure.text == failure.get("message")
    assert failure.get("message") == 'the output is `�[31m�`, `"1" & 2` is expected'


def test_the_program_in_a_node_measures_over_loopback() -> None:
    """The probes themselves, in this machine's network: what a lab adds is tested in a lab."""
    import socket

    assert probes.tcp([(1, "127.0.0.1")], 1)["errors"] == [[1, "connection refused"]]
    assert probes.http("http://127.0.0.1:1/")["error"] == "connection refused"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert probes.tcp([(1, "127.0.0.1")], port)["errors"] == [[1, ""]]


def _test(entry: str) -> LabTest:
    (test,) = topology.loads(f"{RING}tests: [{entry}]\n").tests
    return test
