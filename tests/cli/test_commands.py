"""Test that commands exist, start quickly and fail with the documented exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Nm

COMMANDS = [
    "up",
    "down",
    "status",
    "inspect",
    "labs",
    "exec",
    "shell",
    "logs",
    "run",
    "scenarios",
    "validate",
    "render",
    "generate",
    "graph",
    "schema",
    "link",
    "doctor",
    "gc",
    "version",
    "import",
    "new",
    "bench",
    "completion",
]
RING = Path(__file__).parents[2] / "topologies" / "ring.yaml"


def test_help_names_every_command(nm: Nm) -> None:
    said = nm("--help")
    assert said.code == 0
    for command in COMMANDS:
        assert f"\n  {command} " in said.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(nm: Nm, command: str) -> None:
    said = nm(command, "--help")
    assert said.code == 0
    assert said.out.startswith(f"Usage: nm {command}")


SLOW = {"pydantic", "rich", "docker", "psycopg", "jinja2", "rustworkx", "websockets", "nextmini_py"}
"""Libraries that cost tens of milliseconds each; seconds are measured in `benchmarks.daily`."""


@pytest.mark.parametrize("words", [["--help"], ["validate", str(RING)]])
def test_the_quick_ones_load_nothing_slow(words: list[str]) -> None:
    program = (
        "import sys\nfrom orchestrator.cli.main import main\n"
        f"sys.argv[1:] = {words!r}\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('loaded', *sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    loaded = set(said.stdout.split("loaded", 1)[1].split())
    assert "orchestrator" in loaded
    assert not loaded & SLOW


@pytest.mark.parametrize(
    "words",
    [
        ["nothing-known"],
        ["up"],
        ["up", "a.yaml", "--backend", "carrier-pigeon"],
        ["up", "a.yaml", "--timeout", "soon"],
        ["status", "--nothing-known"],
        ["exec", "1"],
        ["exec", "1", "ping", "-c", "1"],
        ["run", "scenario"],
        ["up", "missing.yaml"],
        ["status", "-n", "../x"],
        ["status", "-n", "nobody"],
        ["run", "scenario", "no-such-scenario"],
        ["run", "scenario", "weights-sync", "--param", "size"],
        ["generate", "moebius-strip"],
        ["link", "set", "1", "2"],
        ["link", "set", "1", "2", "--delay", "20 parsec"],
    ],
)
def test_wrong_usage_is_2_with_one_json_error(nm: Nm, words: list[str]) -> None:
    assert nm(*words).code == 2
    # `-o json` belongs to each command; generate's -o is a file.
    if words[0] not in ("nothing-known", "generate"):
        at = words.index("--") if "--" in words else len(words)
        said = nm(*words[:at], "-o", "json", *words[at:])
        assert said.code == 2
        assert said.out == ""
        assert said.error["id"] and said.error["message"]


def test_exec_without_dashes_says_what_is_missing(nm: Nm) -> None:
    assert "put `--` before the command" in nm("exec", "1", "ping", "-c", "1").err


def test_nothing_is_up(nm: Nm) -> None:
    assert nm("status").code == 2
    assert "no lab is up" in nm("status").err
    assert nm("labs", "-o", "json").json == []
    assert nm("gc", "-o", "json").json == []


def test_down_of_nothing_is_fine(nm: Nm) -> None:
    for words in (["down"], ["down", "-n", "nobody"], ["down", "--all"], ["down", RING]):
        said = nm(*words, "-o", "json")
        assert said.code == 0
        assert all(not each["found"] for each in said.json)


def test_a_file_that_is_wrong_is_said_with_all_its_problems(nm: Nm, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("name: bad\nn_nodes: 2\nlinks:\n  - {endpoints: [1, 9]}\n  - {endpoint: [1, 2]}\n")
    said = nm("validate", file)
    assert said.code == 2
    assert f"{file}:4:" in said.err and f"{file}:5:" in said.err
    error = nm("validate", file, "-o", "json").error
    assert error["place"]["line"] == 4
    assert len(error["problems"]) >= 2


def test_validate_generate_graph_schema_render(nm: Nm, tmp_path: Path) -> None:
    ring = tmp_path / "ring.yaml"
    assert nm("generate", "ring", "--n-nodes", 5, "-o", ring).code == 0
    assert nm("validate", ring, "-o", "json").json["nodes"] == 5
    assert nm("graph", ring, "--format", "dot").out.startswith(("graph", "strict graph"))
    assert "<svg" in nm("graph", ring).out
    assert '"$schema"' in nm("schema").out
    assert nm("render", ring, "-o", tmp_path / "out").code == 0
    assert (tmp_path / "out" / "node-5.toml").is_file()
    assert (tmp_path / "out" / "docker-compose.yml").is_file()


def test_scenarios_lists_what_is_shipped(nm: Nm) -> None:
    names = [each["name"] for each in nm("scenarios", "-o", "json").json]
    assert {"weights-sync", "pingall"} <= set(names)
    assert "weights-sync" in nm("scenarios").out


def test_version_and_completion(nm: Nm) -> None:
    from orchestrator import __version__

    assert nm("version").out == f"nm {__version__}\n"
    assert nm("version", "-o", "json").json["nm"] == __version__
    for shell in ("bash", "zsh", "fish"):
        assert "_NM_COMPLETE" in nm("completion", shell).out


def test_a_new_scenario_can_be_loaded_and_is_not_overwritten(nm: Nm, tmp_path: Path) -> None:
    from orchestrator.scenario import load

    said = nm("new", "scenario", "hello", "-d", tmp_path)
    assert said.code == 0
    assert load(said.out.strip()).name == "hello"
    assert nm("new", "scenario", "hello", "-d", tmp_path).code == 2
    assert nm("new", "scenario", "../hello", "-d", tmp_path).code == 2


def test_a_bug_of_ours_asks_for_a_report(nm: Nm, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator import topology

    def broken(*_: object) -> None:
        raise RuntimeError("the impossible")

    monkeypatch.setattr(topology, "load", broken)
    said = nm("validate", RING)
    assert said.code == 70
    assert "Please report it" in said.err


def test_an_interrupt_is_130(nm: Nm, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator import topology

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(topology, "load", interrupted)
    assert nm("validate", RING).code == 130
