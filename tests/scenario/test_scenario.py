"""Test finding, reading and resolving scenarios."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator import scenario, topology
from orchestrator.errors import ScenarioInvalid, UsageError
from orchestrator.scenario import Scenario

RING = topology.loads("name: ring\ntopology: {type: ring, n_nodes: 4}")
ROLES = "def trainer(ctx): ...\nasync def worker(ctx): ...\n"
YAML = """\
name: hello
summary: every worker receives the trainer's bytes
topology: ring.yaml
params:
  size: {type: int, default: 1000000, min: 1, help: bytes to send}
  rate: {type: rate, default: 20 Mbit}
  wait: {type: duration, default: 1.5 s, max: 10 s}
  room: {type: size, default: 64 KB}
  share: {type: float, default: 0.5, min: 0, max: 1}
  loud: {type: bool, default: false}
  kind: {type: str, default: a, choices: [a, b]}
  file: {type: file, default: ""}
roles:
  trainer: {nodes: 1}
  worker: {nodes: rest}
checks:
  - {name: all complete, rows: worker, where: "state == 'complete'", count: all}
timeout: 60 s
"""


@pytest.mark.parametrize("name", scenario.shipped())
def test_every_shipped_scenario_is_sound(name: str) -> None:
    read = scenario.load(name)
    assert read.name == name
    assert read.summary
    assert read.checks
    assert read.topology is not None
    plan = read.resolve(topology.load(read.topology))
    assert set(plan.roles) == set(read.roles) | ({"traffic"} if read.traffic else set())
    assert ("roles.py" in read.files()) == bool(read.roles)


def test_what_a_scenario_needs_is_stated_by_it() -> None:
    assert scenario.load("allreduce").modules == ("torch",)
    assert scenario.load("pingall").modules == scenario.load("pingall").programs == ()


def test_the_scenario_of_the_documentation(tmp_path: Path) -> None:
    read = _scenario(tmp_path)
    assert (read.name, read.timeout, read.entry) == ("hello", 60.0, "roles.py")
    plan = read.resolve(RING)
    assert plan.roles == {"trainer": (1,), "worker": (2, 3, 4)}
    assert plan.params == {
        "size": 1_000_000,
        "rate": 20_000_000,
        "wait": 1.5,
        "room": 64_000,
        "share": 0.5,
        "loud": False,
        "kind": "a",
        "file": "",
    }
    assert plan.uploads == {}
    assert plan.names[3] == "node-3"


def test_parameters_are_read_from_a_command_line_and_from_python_alike(tmp_path: Path) -> None:
    read = _scenario(tmp_path)
    text = {
        "size": "5",
        "rate": "1 kbit",
        "wait": "20 ms",
        "room": "1 MiB",
        "share": "1",
        "loud": "true",
        "kind": "b",
    }
    plain = {"size": 5, "rate": 1000, "wait": 0.02, "room": 2**20, "share": 1.0, "loud": True, "kind": "b"}
    assert read.resolve(RING, text).params == read.resolve(RING, plain).params == {**plain, "file": ""}


def test_a_file_is_found_and_named_for_upload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = _scenario(tmp_path)
    (tmp_path / "weights.bin").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    plan = read.resolve(RING, {"file": "weights.bin"})
    assert plan.uploads == {"file": tmp_path / "weights.bin"}
    assert plan.params["file"] == str(tmp_path / "weights.bin")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"size": "two"}, "size is `two`, but a whole number is expected"),
        ({"size": "1.5"}, "size is `1.5`, but a whole number is expected"),
        ({"size": True}, "size is `True`, but a whole number is expected"),
        ({"size": "0"}, "size is `0`, but at least 1 is needed"),
        ({"rate": "20"}, "rate is `20`, but it needs a unit"),
        ({"wait": "11 s"}, "wait is `11 s`, but at most 10 s is allowed"),
        ({"wait": "soon"}, "wait is `soon`, but a duration such as `20 ms` is expected"),
        ({"share": "nan"}, "share is `nan`, but a number is expected"),
        ({"share": "1.5"}, "share is `1.5`, but at most 1 is allowed"),
        ({"loud": "perhaps"}, "loud is `perhaps`, but true or false is expected"),
        ({"kind": "c"}, "kind is `c`, but it is not among the choices"),
        ({"file": "/gone/x"}, "file is `/gone/x`, but there is no such file"),
        ({"file": "/dev/null"}, "file is `/dev/null`, but the file is empty"),
        ({"file": "/"}, "file is `/`, but that is a folder"),
        ({"sise": "5"}, "the scenario hello has no parameter `sise`"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(
    params: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ScenarioInvalid) as caught:
        _scenario(tmp_path).resolve(RING, params)
    (problem,) = caught.value.problems
    assert problem.message == message
    ((name, value),) = params.items()
    assert str(problem.place) == f"--param {name}={value}"
    assert caught.value.exit_code == 2


def test_a_parameter_without_default_has_to_be_given(tmp_path: Path) -> None:
    read = _scenario(
        tmp_path, YAML.replace("{type: int, default: 1000000, min: 1, help: bytes to send}", "{type: int}")
    )
    with pytest.raises(ScenarioInvalid, match="`size` has no default and has to be given"):
        read.resolve(RING)
    assert read.resolve(RING, {"size": "3"}).params["size"] == 3


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        (
            "{trainer: {nodes: 1}, worker: {nodes: 1-2}}",
            "node 1 would play `worker` and another role at once",
        ),
        (
            "{trainer: {nodes: 9}, worker: {nodes: rest}}",
            "role `trainer` names `9`, which is no node in ring",
        ),
        ("{trainer: {nodes: all}, worker: {nodes: rest}}", "no node is left for the role `worker`"),
        (
            "{trainer: {nodes: tier=core}, worker: {nodes: rest}}",
            "role `trainer` names `tier=core`, which matches no",
        ),
    ],
)
def test_roles_that_nobody_can_play_are_refused(roles: str, message: str, tmp_path: Path) -> None:
    read = _scenario(tmp_path, f"roles: {roles}\n")
    with pytest.raises(ScenarioInvalid) as caught:
        read.resolve(RING)
    assert caught.value.problems[0].message.startswith(message)
    assert caught.value.problems[0].place is not None


def test_external_nodes_of_users_programs_play_no_role(tmp_path: Path) -> None:
    external = topology.loads("n_nodes: 4\nnodes: {4: {external: true}}")
    assert _scenario(tmp_path).resolve(external).roles["worker"] == (2, 3)
    explicit = _scenario(tmp_path, "roles: {trainer: {nodes: 1}, worker: {nodes: 2-4}}")
    with pytest.raises(ScenarioInvalid, match="cannot run in node 4, which is external"):
        explicit.resolve(external)


def test_only_the_code_goes_to_the_nodes(tmp_path: Path) -> None:
    read = _scenario(tmp_path)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "help.py").write_text("x = 1\n")
    for name in ("__pycache__/roles.pyc", ".git/config", "results/run.json"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("no")
    (tmp_path / "secret").symlink_to("/etc/passwd")
    assert sorted(read.files()) == ["lib/help.py", "roles.py", "scenario.yaml"]


def test_too_much_for_a_message_is_refused(tmp_path: Path) -> None:
    read = _scenario(tmp_path)
    (tmp_path / "big.bin").write_bytes(bytes(4 * 1024 * 1024))
    with pytest.raises(ScenarioInvalid, match="larger than 3 MiB"):
        read.files()


@pytest.mark.parametrize("name", ["weights-snc", "../weights-sync", "/nowhere", "a/b/c", "x;y"])
def test_a_scenario_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        scenario.load(name)
    assert caught.value.id == "scenario.missing"
    assert caught.value.hint is not None


def test_a_folder_without_scenario_says_how_to_begin(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        scenario.load(tmp_path)
    assert caught.value.hint == "`nm new scenario NAME` writes a starting point"


def test_code_that_does_not_parse_is_refused_at_its_line(tmp_path: Path) -> None:
    (tmp_path / "scenario.yaml").write_text("roles: {trainer: {nodes: 1}}\n")
    (tmp_path / "roles.py").write_text("def trainer(ctx)\n    pass\n")
    with pytest.raises(ScenarioInvalid) as caught:
        scenario.load(tmp_path)
    assert str(caught.value.problems[0].place) == f"{tmp_path / 'roles.py'}:1:17"


def test_roles_may_be_imported_or_bound_and_are_not_run_to_find_out(tmp_path: Path) -> None:
    (tmp_path / "scenario.yaml").write_text(
        "roles: {trainer: {nodes: 1}, a-b: {nodes: 2}, worker: {nodes: 3}}\n"
    )
    (tmp_path / "roles.py").write_text(
        "from x import trainer\na_b = 1\nimport y as worker\nraise SystemExit\n"
    )
    assert list(scenario.load(tmp_path).roles) == ["trainer", "a-b", "worker"]


def _scenario(folder: Path, text: str = YAML) -> Scenario:
    (folder / "scenario.yaml").write_text(text)
    (folder / "roles.py").write_text(ROLES)
    return scenario.load(folder)
