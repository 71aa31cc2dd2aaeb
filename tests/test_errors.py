"""Test the error tree: rendering, JSON, ids, pickling."""

from __future__ import annotations

import inspect
import json
import pickle

import pytest

from orchestrator import errors
from orchestrator.errors import (
    FileInvalid,
    HostNotFit,
    InternalError,
    NmError,
    Place,
    Problem,
    TopologyInvalid,
    UnitInvalid,
    nearest,
    nearest_hint,
    quoted,
)
from orchestrator.protocol import MISTAKES, peer_error
from orchestrator.protocol.messages import Error
from scripts.reference import errors as reference

PROBLEMS = [
    Problem(
        "link a–c names node `c`, which is not defined",
        "topology.unknown-node",
        Place("topologies/campus.yml", 14, 11),
        found="c",
        hint="nodes defined here are `a`, `b`, `core`",
    ),
    Problem(
        "loss is `5`, but a probability lies between 0 and 1",
        "topology.unit",
        Place("topologies/campus.yml", 21, 14),
        found="5",
        hint="write `5%` or `0.05`",
    ),
]


def test_a_files_problems_are_shown_place_first_and_id_last() -> None:
    error = TopologyInvalid(PROBLEMS, file="topologies/campus.yml")
    assert str(error) == "2 problems in topologies/campus.yml"
    assert error.render() == (
        "topologies/campus.yml:14:11  link a–c names node `c`, which is not defined\n"
        "    hint: nodes defined here are `a`, `b`, `core`\n"
        "\n"
        "topologies/campus.yml:21:14  loss is `5`, but a probability lies between 0 and 1\n"
        "    hint: write `5%` or `0.05`\n"
        "\n"
        "2 problems, nothing was started  [topology.invalid]"
    )


def test_an_operators_error_carries_a_hint_an_id_and_fields() -> None:
    error = HostNotFit(
        "cannot open /dev/net/tun: permission denied",
        id="dataplane.tun-denied",
        hint="the node container needs the NET_ADMIN capability and the device",
        fields={"node": "edge-2", "run": "7f3c"},
    )
    assert error.render() == (
        "cannot open /dev/net/tun: permission denied\n"
        "    hint: the node container needs the NET_ADMIN capability and the device\n"
        "    [dataplane.tun-denied]  node=edge-2 run=7f3c"
    )
    assert error.exit_code == 4


def test_only_our_own_mistakes_ask_for_a_report() -> None:
    error = InternalError("link a→b finished a packet it never started", fields={"run": "7f3c", "seed": 91})
    assert "Please report it with: run=7f3c seed=91" in error.render()
    assert "report" not in HostNotFit("no room").render()


def test_json_has_the_promised_shape() -> None:
    shown = TopologyInvalid(PROBLEMS).as_json()["error"]
    assert {"id", "message", "place", "found", "expected", "hint"} <= shown.keys()
    assert shown["id"] == "topology.invalid"
    assert shown["place"] == {"file": "topologies/campus.yml", "line": 14, "column": 11}
    assert [problem["id"] for problem in shown["problems"]] == ["topology.unknown-node", "topology.unit"]
    json.dumps(shown)


def test_a_single_problem_speaks_for_the_file() -> None:
    error = FileInvalid(PROBLEMS[1:])
    assert error.as_json()["error"]["message"] == PROBLEMS[1].message
    assert str(error) == f"1 problem in topologies/campus.yml: {PROBLEMS[1].message}"


def test_every_error_survives_pickling() -> None:
    samples: list[NmError] = [
        TopologyInvalid(PROBLEMS),
        UnitInvalid("20 mz", "`mz` is no unit of time", expected="a duration", hint="units are …"),
        HostNotFit("no TUN", place=Place("f", 1, 2), fields={"node": 3}, exit_code=9),
    ]
    for error in samples:
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert again.render() == error.render()
        assert (again.as_json(), again.exit_code, again.id) == (error.as_json(), error.exit_code, error.id)


@pytest.mark.parametrize(
    "kind", [item for item in vars(errors).values() if inspect.isclass(item) and issubclass(item, NmError)]
)
def test_every_error_is_drawn_in_the_tree_with_its_exit_code(kind: type[NmError]) -> None:
    assert errors.__doc__ is not None
    line = next((line for line in errors.__doc__.splitlines() if f" {kind.__name__} " in f"{line} "), "")
    assert line, f"{kind.__name__} is missing in the tree at the top of errors.py"
    shown = line.rsplit("(", 1)[-1].rstrip(")")
    if shown.isdecimal():
        assert kind.exit_code == int(shown)


def test_the_nearest_name_is_found_whatever_its_case() -> None:
    assert nearest("dealy", ["rate", "delay"]) == "delay"
    assert nearest("Delay", ["delay"]) == "delay"
    assert nearest("xyz", ["rate", "delay"]) is None


def test_hints_offer_the_nearest_name_or_all_of_them() -> None:
    assert nearest_hint("dealy", ["rate", "delay"]) == "did you mean `delay`?"
    assert nearest_hint("xyz", ["rate", "delay"]) == "known names are `delay`, `rate`"
    assert nearest_hint("xyz", []) is None
    assert nearest_hint("dealy", ["delay"], otherwise="say what") == "did you mean `delay`?"
    assert nearest_hint("xyz", ["delay"], otherwise="say what") == "say what"
    assert quoted(range(20)).endswith("`11` and 8 more")


def test_an_id_has_one_exit_code_wherever_it_is_raised() -> None:
    codes: dict[str, set[int]] = {}
    for entry in reference.entries():
        codes.setdefault(entry.id, set()).add(entry.code)
    assert {id: found for id, found in codes.items() if len(found) > 1} == {}


def test_an_error_that_the_controller_sends_has_the_exit_code_that_it_has_there() -> None:
    sent = {each.id: each.code for room in ("controller", "protocol") for each in reference.entries(room)}
    assert len(sent) > 30
    assert {id for id, code in sent.items() if code == 2} == MISTAKES
    for id, code in sent.items():
        assert peer_error(Error(1, id, "no")).exit_code == code, id


@pytest.mark.parametrize(("number", "said"), [(0, "0 links"), (1, "1 link"), (2, "2 links")])
def test_one_of_a_kind_is_said_in_the_singular(number: int, said: str) -> None:
    assert errors.counted(number, "link") == said
