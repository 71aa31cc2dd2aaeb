"""Test reading and writing `tests:` of a topology file."""

from __future__ import annotations

import pytest

from orchestrator import topology
from orchestrator.errors import TopologyInvalid
from orchestrator.topology import LabTest
from orchestrator.topology.model import Output
from orchestrator.units import Duration, Rate

RING = "name: ring\ntopology: {type: ring, n_nodes: 4}\nnodes: {1: {name: db}, 4: {external: true}}\n"


def test_each_kind_of_test_is_read_with_its_nodes() -> None:
    found = _tests(
        "- {reach: all}\n"
        "- {from: 1, to: '2-3'}\n"
        "- {tcp: 6379, from: 4, to: db, wait: 2 s, timeout: 5 s}\n"
        "- {http: 'http://db:80/x', from: 2, status: 404}\n"
        "- {command: 'echo \"a b\"', node: all, exit_code: 3, output: {contains: a}}\n"
        "- {route: [db, 2, 3]}\n"
        "- {throughput: {min: 90 Mbit}, from: 1, to: 2, duration: 1 s}\n"
        "- {loss: {max: 1 %}, from: 1, to: 2}\n"
        "- {name: near, delay: {min: 40 ms, max: 42 ms}, from: 2, to: 1, packets: 9}\n"
    )
    assert [(each.name, each.kind, each.sources, each.targets) for each in found] == [
        ("reach all", "reach", (1, 2, 3), (1, 2, 3)),
        ("reach from 1 to 2-3", "reach", (1,), (2, 3)),
        ("tcp 6379 from 4 to db", "tcp", (4,), (1,)),
        ("http http://db:80/x from 2", "http", (2,), ()),
        ("echo a b node all", "command", (1, 2, 3), ()),
        ("route db → 2 → 3", "route", (1,), (3,)),
        ("throughput from 1 to 2", "throughput", (1,), (2,)),
        ("loss from 1 to 2", "loss", (1,), (2,)),
        ("near", "delay", (2,), (1,)),
    ]
    reach, pair, tcp, http, command, route, throughput, loss, delay = found
    assert len(reach.pairs) == 6 and pair.pairs == ((1, 2), (1, 3))
    assert (tcp.port, tcp.wait_s, tcp.timeout_s) == (6379, 2.0, 5.0)
    assert (http.url, http.status) == ("http://db:80/x", 404)
    assert command.command == ("echo", "a b") and command.exit_code == 3
    assert command.output == Output("contains", "a")
    assert route.route == (1, 2, 3)
    assert (throughput.least, throughput.most, throughput.duration_s) == (Rate(90_000_000), None, 1.0)
    assert (loss.least, loss.most, loss.packets) == (None, 0.01, 1_000)
    assert (delay.least, delay.most, delay.packets) == (Duration(40_000), Duration(42_000), 9)


def test_tests_are_written_and_read_again() -> None:
    text = RING + (
        "tests:\n"
        "- {name: 'a: b', command: [sh, -c, \"echo a\\nb\"], node: 1, output: {matches: '^a$'}}\n"
        "- {loss: {max: 0.01}, from: 1, to: 2}\n"
        "- {delay: {min: 40 ms}, from: 2, to: [1, db]}\n"
    )
    read = topology.loads(text)
    assert topology.loads(topology.dump(read)).tests == read.tests
    assert read.tests[0].command == ("sh", "-c", "echo a\nb")


@pytest.mark.parametrize(
    ("expected", "output", "holds"),
    [
        (Output("equals", "PONG"), "PONG\n", True),
        (Output("equals", "PONG"), "PONG 1", False),
        (Output("contains", "ON"), "PONG\n", True),
        (Output("matches", "^b$"), "a\nb\n", True),
        (Output("matches", "^c"), "a\nbc\n", False),
    ],
)
def test_an_output_is_compared(expected: Output, output: str, holds: bool) -> None:
    assert expected.holds(output) is holds


@pytest.mark.parametrize(
    ("entry", "id", "column", "words"),
    [
        ("{from: 1}", "test-kind", 3, "does not say what is tested"),
        ("{reeach: all}", "test-kind", 3, "did you mean `reach`?"),
        ("{reach: all, tcp: 1, from: 1, to: 2}", "test-kind", 16, "tests one thing"),
        ("{reach: 9}", "selector", 11, "`9`, which is no node"),
        ("{reach: 1}", "test-pairs", 3, "no two different nodes"),
        ("{tcp: 6379, from: 1}", "missing-key", 3, "needs the key `to`"),
        ("{tcp: 70000, from: 1, to: 2}", "range", 9, "at most 65535"),
        ("{http: 'node-1/', from: 1}", "form", 10, "a URL"),
        ("{command: 'echo \"a', node: 1}", "form", 13, "No closing quotation"),
        ("{command: x, node: 1, output: {matches: '('}}", "test-output", 43, "no regular expression"),
        ("{command: x, node: 1, output: {like: x}}", "type", 33, "`contains`, `matches`"),
        ("{route: [1, 7]}", "unknown-node", 15, "names node `7`"),
        ("{delay: {}, from: 1, to: 2}", "test-bounds", 11, "neither `min` nor `max`"),
        ("{delay: {min: 2 ms, max: 1 ms}, from: 1, to: 2}", "test-bounds", 17, "above its max"),
        ("{loss: {max: 1}, from: 1, to: 2}", "unit", 16, "one per cent or everything"),
        ("{reach: all, wait: 2}", "unit", 22, "needs a unit"),
        ("{reach: all, retry: 2}", "unknown-key", 16, "did you mean `wait`?"),
    ],
)
def test_a_wrong_test_is_refused_at_its_place(entry: str, id: str, column: int, words: str) -> None:
    with pytest.raises(TopologyInvalid) as caught:
        _tests(f"- {entry}\n")
    (problem,) = caught.value.problems
    assert (problem.id, problem.place and (problem.place.line, problem.place.column)) == (
        f"topology.{id}",
        (5, column),
    )
    assert words in problem.render()


def _tests(entries: str) -> tuple[LabTest, ...]:
    return topology.loads(f"{RING}tests:\n{entries}").tests
