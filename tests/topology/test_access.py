"""Test the key `controller` of topology files, and the options that stand for it."""

from __future__ import annotations

import pytest

from orchestrator import topology
from orchestrator.errors import TopologyInvalid, UsageError
from orchestrator.topology import Access
from orchestrator.topology.access import with_options
from orchestrator.topology.difference import difference

LINE = "topology: {type: line, n_nodes: 2}\n"


@pytest.mark.parametrize(
    ("text", "outside", "encrypted"),
    [
        ("", False, False),
        ("controller: {tls: true}", False, True),
        ("controller: {listen: 127.0.0.2}", False, False),
        ("controller: {listen: 127.0.0.2, tls: true}", False, True),
        ("controller: {listen: 192.0.2.7}", True, True),
        ("controller: {listen: '2001:db8::7', names: [lab.example.org]}", True, True),
    ],
)
def test_tls_is_on_where_other_machines_reach_the_controller(
    text: str, outside: bool, encrypted: bool
) -> None:
    read = topology.loads(LINE + text)
    assert (read.controller.is_outside, read.controller.encrypted) == (outside, encrypted)
    again = topology.loads(topology.dump(read))
    assert again.controller == read.controller and not difference(read, again)


@pytest.mark.parametrize(
    ("value", "id", "line"),
    [
        ("{listen: 192.0.2.7,\n tls: false}", "topology.plain-controller", 3),
        ("{listen: 0.0.0.0}", "topology.type", 2),
        ("{listen: '::'}", "topology.type", 2),
        ("{listen: 224.0.0.1}", "topology.type", 2),
        ("{listen: localhost}", "topology.type", 2),
        ("{listen: 'fe80::1%eth0'}", "topology.type", 2),
        ("{tls: maybe}", "topology.type", 2),
        ("{names: ['-x']}", "topology.form", 2),
        ("{names: ['a b']}", "topology.form", 2),
        ("{listens: 192.0.2.7}", "topology.unknown-key", 2),
    ],
)
def test_what_is_wrong_is_said_with_its_place(value: str, id: str, line: int) -> None:
    with pytest.raises(TopologyInvalid) as caught:
        topology.loads(LINE + "controller: " + value)
    (problem,) = caught.value.problems
    assert problem.place is not None
    assert (problem.id, problem.place.line) == (id, line), problem


def test_options_stand_above_the_file() -> None:
    stated = Access(listen="192.0.2.7", names=("lab.example.org",))
    assert with_options(stated, None, None) == stated
    assert with_options(stated, True, "127.0.0.2") == Access(
        listen="127.0.0.2", tls=True, names=("lab.example.org",)
    )
    assert with_options(stated, False, None).is_plain_outside
    for wrong in ("0.0.0.0", "here", ""):
        with pytest.raises(UsageError) as caught:
            with_options(stated, None, wrong)
        assert caught.value.id == "usage.listen"


def test_a_change_of_it_needs_a_new_start() -> None:
    before = topology.loads(LINE)
    after = topology.loads(LINE + "controller: {tls: true, listen: 127.0.0.2, names: [a.example]}")
    (entry,) = difference(before, after).entries()
    assert not entry.live
    assert entry.keys == {"controller": ("no TLS", "TLS, listening on 127.0.0.2 as well, as a.example")}
