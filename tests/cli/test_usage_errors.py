"""Test usage errors, and options that all commands share."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator import cli
from tests.cli.conftest import Nm

MISTAKES = {
    "up x.yaml --bakend native": "did you mean `--backend`?",
    "generate ring --n_nodes 4": "did you mean `--n-nodes`?",
    "link set 1 2 --bandwidth 3": "did you mean `--rate`?",
    "link set 1 2 --latency 3": "did you mean `--delay`?",
    "sttus": "did you mean `nm status`?",
    "link st 1 2": "did you mean `nm link set`?",
    "run weights-sync": "did you mean `nm run scenario weights-sync`?",
    "exec 1 ls -l": "put `--` before the command that shall run in the node",
    "status --foo": "`nm status --help` says more",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_the_nearest_word_is_offered(nm: Nm, line: str) -> None:
    said = nm(*line.split(), "-o", "json") if "exec" not in line else nm(*line.split())
    assert said.code == 2
    hint = said.error["hint"] if "exec" not in line else said.err
    assert MISTAKES[line] in hint


@pytest.mark.parametrize(
    ("line", "missing"),
    [
        ("exec", "NODE[,NODE…|all]"),
        ("exec 1", "-- CMD…"),
        ("shell", "NODE"),
        ("validate", "FILE"),
        ("render ring.yaml", "`--output DIR`"),
    ],
)
def test_a_missing_word_is_called_as_the_help_calls_it(nm: Nm, line: str, missing: str) -> None:
    said = nm(*line.split())
    assert said.code == 2
    assert said.err.startswith(f"{missing} is missing\n")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--jitter", "5", "it needs a unit"),
        ("--jitter", "none", "a duration such as"),
        ("--jitter", "{distribution: uniform}", "jitter needs the key `std`"),
        ("--jitter", "{std: 5 ms, distribution: parato}", "did you mean `pareto`?"),
        ("--jitter", "{std: 5 ms", "did not find expected"),
        ("--loss", "{mean: 90 %, burst: 5}", "does not come in bursts of 5"),
        ("--loss", "{mean: 150 %}", "a probability lies between 0 and 1"),
        ("--loss", "{}", "loss needs the key `mean`"),
        ("--profile", "4gg", "did you mean `4g`?"),
        ("--limit", "20", "it needs a unit"),
        ("--ecn", "yes", "true or false is expected"),
        ("--queue", "{type: red, min: 90 KB, max: 30 KB}", "no range in which it drops"),
        ("--queue", "none", "`nm link reset` returns to the declared values"),
        ("--scheduler", "{type: drr, weights: {5201: 2}}", "weights need a property"),
        ("--jitter", "{std: 5 ms, distribution: none.csv}", "there is no such file"),
        ("--mtu", "1.5 KB", "a whole number of bytes is expected"),
    ],
)
def test_a_value_of_a_link_is_read_as_strictly_as_in_a_file(
    nm: Nm, option: str, value: str, message: str
) -> None:
    said = nm("link", "set", "1", "2", option, value)
    assert said.code == 2
    assert message in said.err


@pytest.mark.parametrize("word", ["version", "--version", "-V"])
def test_the_version_is_asked_for_in_three_ways(nm: Nm, word: str) -> None:
    said = nm(word)
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("nm ")


@pytest.mark.parametrize("quiet", ["-q", "--quiet"])
def test_quiet_leaves_data_and_errors(nm: Nm, tmp_path: Path, quiet: str) -> None:
    file = tmp_path / "pair.yaml"
    file.write_text("n_nodes: 2\nlinks:\n  - {endpoints: [1, 2]}\n")
    assert nm("validate", file, quiet).err == ""
    assert nm(quiet, "validate", file, "-o", "json").json["links"] == 1
    assert nm("validate", tmp_path / "none.yaml", quiet).err != ""
    assert nm("validate", file).err == f"{file} is fine: pair, 2 nodes, 1 link\n"  # and not for ever after


def test_a_topology_comes_from_standard_input(nm: Nm, monkeypatch: pytest.MonkeyPatch) -> None:
    def give(text: str) -> None:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))

    give("name: piped\ntopology: {type: ring, n_nodes: 3}\n")
    assert nm("validate", "-", "-o", "json").json == {
        "file": "<stdin>",
        "name": "piped",
        "nodes": 3,
        "links": 3,
        "ok": True,
        "warnings": [],
    }
    give("n_nodes: x\n")
    said = nm("up", "-", "-o", "json")
    assert said.code == 2
    assert said.error["problems"][0]["place"] == {"file": "<stdin>", "line": 1, "column": 10}


@pytest.mark.parametrize("limit", ["3", "0 packets", "3 apples", "", "-1 B"])
def test_a_queue_limit_is_read_as_in_the_file(nm: Nm, tmp_path: Path, limit: str) -> None:
    file = tmp_path / "pair.yaml"
    file.write_text(f"n_nodes: 2\nlinks:\n  - {{endpoints: [1, 2], limit: '{limit}'}}\n")
    (in_file,) = nm("validate", file, "-o", "json").error["problems"]
    typed = nm("link", "set", "1", "2", f"--limit={limit}", "-o", "json")
    assert typed.code == 2
    assert typed.error["hint"] == in_file["hint"]
    assert typed.error["expected"] == in_file["expected"]


def test_a_picture_has_the_format_that_its_name_asks_for(nm: Nm, tmp_path: Path) -> None:
    file = tmp_path / "pair.yaml"
    file.write_text("n_nodes: 2\nlinks:\n  - {endpoints: [1, 2]}\n")
    begins = {"a.svg": "<svg", "a.dot": "graph", "a.mmd": "flowchart", "noending": "<svg"}
    for name, begin in begins.items():
        assert nm("graph", file, "-o", tmp_path / name).code == 0
        assert begin in (tmp_path / name).read_text()[:60]
    said = nm("graph", file, "-o", tmp_path / "a.png")
    assert (said.code, "dot -Tpng" in said.err) == (2, True)
    assert not (tmp_path / "a.png").exists()


def test_a_lab_where_a_file_is_expected_is_recognised(nm: Nm, tmp_path: Path) -> None:
    (tmp_path / "home/labs/ring").mkdir(parents=True)
    said = nm("down", "ring")
    assert (said.code, "`nm down -n ring`" in said.err) == (2, True)


@pytest.mark.parametrize("command", ["status", "inspect", "labs", "gc"])
def test_a_lab_named_without_its_option_is_recognised(nm: Nm, tmp_path: Path, command: str) -> None:
    (tmp_path / "home/labs/ring").mkdir(parents=True)
    said, other = nm(command, "ring"), nm(command, "rong")
    assert (said.code, other.code) == (2, 2)
    takes_lab = command in ("status", "inspect")
    assert (f"hint: `nm {command} -n ring`" in said.err) == takes_lab
    assert f"`nm {command} --help`" in other.err


def test_an_incomplete_installation_says_what_to_type(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("orchestrator.cli.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "typer", None)  # as if it were not installed
    with pytest.raises(SystemExit) as leaving:
        cli.start()
    assert leaving.value.code == 4
    said = capsys.readouterr().err
    assert "the module `typer` is missing" in said
    assert "-m pip install nm-testbed" in said


@pytest.mark.parametrize(
    ("options", "direction"),
    [
        ("", "both"),
        ("--forward", "forward"),
        ("--backward", "backward"),
        ("--forward --backward", "both"),
        ("--direction backward", "backward"),
        ("--forward --direction forward", "forward"),
    ],
)
def test_a_direction_is_an_option_of_its_own_or_a_value(
    nm: Nm, monkeypatch: pytest.MonkeyPatch, options: str, direction: str
) -> None:
    asked = []

    def set_link(*args: object, **named: object) -> dict[str, object]:
        asked.append(named["direction"])
        return {}

    monkeypatch.setattr("orchestrator.lab.Lab.attach", lambda lab: SimpleNamespace(set_link=set_link))
    assert nm("link", "set", "1", "2", "--delay", "1 ms", *options.split()).code == 0
    assert nm("link", "reset", "1", "2", *options.split()).code == 0
    assert asked == [direction, direction]


def test_directions_that_contradict_each_other_are_a_usage_error(nm: Nm) -> None:
    for command in ("set 1 2 --delay 1ms", "reset 1 2"):
        said = nm("link", *command.split(), "--forward", "--direction", "backward")
        assert said.code == 2 and "contradicts `--forward`" in said.err
    assert nm("link", "reset", "--forward").code == 2


def test_links_of_a_long_answer_are_counted_to_the_end(nm: Nm, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = {"links": [[1, node] for node in range(2, 202)], "links_count": 1000}
    lab = SimpleNamespace(reset_links=lambda: answer)
    monkeypatch.setattr("orchestrator.lab.Lab.attach", lambda name: lab)
    assert nm("link", "reset").err.endswith("1–8, 1–9 and 992 more\n")
