"""Test the import of Compose files."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator import importers, topology
from orchestrator.errors import ImportInvalid, UsageError
from orchestrator.importers.draft import Imported
from orchestrator.importers.healthcheck import ready_of, time_of
from orchestrator.importers.variables import Variables, read_variables
from orchestrator.source import Problems, Value, parse_yaml
from tests.importers.samples import COMPOSE


def test_each_service_gets_a_node_and_stays_what_it_is(tmp_path: Path) -> None:
    lab = topology.loads(_compose(tmp_path, COMPOSE).text, str(tmp_path / "lab.yaml"))
    assert {node.id: node.name for node in lab.nodes.values()} == {1: "hub", 2: "web", 3: "redis"}
    assert [(link.a, link.b) for link in lab.links] == [(1, 2), (1, 3)]
    services = {service.name: service for service in lab.services}
    web, redis, worker = (services[name] for name in ("web", "redis", "worker"))
    assert (web.nodes, redis.nodes, worker.nodes) == ((2,), (3,), (3,))
    assert web.image == "nginx:1.27"
    assert dict(web.environment) == {"A": "1", "HOME": None}
    assert [str(volume) for volume in web.volumes] == [
        f"{tmp_path}/html:/usr/share/nginx/html:ro",
        "data:/data",
    ]
    assert dict(web.depends_on) == {"redis": "service_healthy", "worker": "service_started"}
    assert redis.command == ("redis-server", "--bind", "0.0.0.0")
    assert (redis.cpus, redis.mem_limit, redis.restart) == (0.5, 256 * 2**20, "unless-stopped")
    assert redis.ready is not None
    assert (redis.ready.value, redis.ready.timeout_ms) == (("redis-cli", "ping"), 21_000)
    assert dict(worker.environment) == {"N": "010", "Y": "yes", "PW": "", "COST": "1$"}
    assert worker.build is not None and dict(worker.build.args) == {"X": "1"}


def test_what_compose_has_and_a_topology_has_not_is_named(tmp_path: Path) -> None:
    assert _compose(tmp_path, COMPOSE).notes == (
        "`driver` of volumes: data",
        "`ports`: nothing is published to this machine: web",
        "`networks`: each node can reach every other: web",
        "the mode `z` of volumes: web",
        "`deploy.replicas`: each service runs once: redis",
        "services of a profile: debug",
        "variables that are not set are empty: NM_TEST_PASSWORD",
        "`required` of dependencies: web on worker",
    )


@pytest.mark.parametrize(
    ("shape", "links"),
    [("line", [(1, 2), (2, 3)]), ("ring", [(1, 2), (1, 3), (2, 3)]), ("star", 3), ("full_mesh", 3)],
)
def test_shapes(shape: str, links: list[tuple[int, int]] | int, tmp_path: Path) -> None:
    text = "services:\n" + "".join(f"  {name}: {{image: x}}\n" for name in "abc")
    lab = topology.loads(_compose(tmp_path, text, shape=shape).text)
    found = [(link.a, link.b) for link in lab.links]
    assert found == links if isinstance(links, list) else len(found) == links


def test_paths_are_relative_to_where_the_topology_file_will_be(tmp_path: Path) -> None:
    (tmp_path / "labs").mkdir()
    text = _compose(tmp_path, COMPOSE, directory=tmp_path / "labs").text
    assert '"../html:/usr/share/nginx/html:ro"' in text
    assert 'context: ".."' in text


def test_a_name_that_a_lab_needs_itself_is_said(tmp_path: Path) -> None:
    imported = _compose(tmp_path, "services: {postgres: {image: postgres}, my.app: {image: x}}\n")
    lab = topology.loads(imported.text)
    assert [node.name for node in lab.nodes.values()] == ["hub", "n-postgres", "my-app"]
    assert any("postgres is n-postgres, my.app is my-app" in note for note in imported.notes)


def test_other_forms_of_keys(tmp_path: Path) -> None:
    text = """services:
  a:
    image: x
    volumes:
      - {type: bind, source: ./a, target: /a, read_only: true}
      - {type: tmpfs, target: /t}
      - {type: volume, target: /v, volume: {nocopy: true}}
      - {type: npipe, target: /p}
      - /only
    env_file: [{path: ./a.env, required: false}]
    deploy: {resources: {reservations: {devices: [{capabilities: [gpu], count: 2}]}}}
    network_mode: host
    depends_on: [b, gone]
    restart: false
    cpus: 0
    user: "1000:1000"
  b: {build: "https://example.org/x.git", command: [sleep, 1.50]}
  c: {labels: [a]}
"""
    imported = _compose(tmp_path, text)
    lab = topology.loads(imported.text, str(tmp_path / "x.yaml"))
    services = {service.name: service for service in lab.services}
    a, b = services["a"], services["b"]
    assert [str(volume) for volume in a.volumes] == [f"{tmp_path}/a:/a:ro", "/v", "/only"]
    assert (a.tmpfs, a.gpus, a.user, a.restart) == (("/t",), "2", "1000:1000", "no")
    assert a.env_file == (f"{tmp_path}/a.env",)
    assert list(a.depends_on) == ["b"]
    assert b.command == ("sleep", "1.50")
    for words in (
        "volumes of the type `npipe`: a",
        "`volume` of volumes: a",
        "`network_mode: host`: a",
        "dependencies on services that are left out: a on gone",
        "`build` from another host: b",
        "services without `image`, `build` and `command`: c",
        "`labels` of services: c",
    ):
        assert words in imported.notes


def test_a_shape_that_needs_more_nodes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a ring needs at least 3 nodes, but the file makes 1"):
        _compose(tmp_path, "services: {a: {image: x}}\n", shape="ring")


@pytest.mark.parametrize(
    ("text", "id", "line"),
    [
        ("version: '3'\n", "import.format", 0),
        ("services: [a]\n", "import.type", 1),
        ("services:\n  a: 3\n", "import.type", 2),
        ("services: {}\n", "import.empty", 1),
        ("services:\n  a: {image: x, volumes: 3}\n", "import.type", 2),
        ("services:\n  a: {image: x, image: y}\n", "yaml.duplicate-key", 2),
        ("services:\n  a: !reset null\n", "yaml.tag", 2),
    ],
)
def test_a_bad_compose_file_is_refused_with_its_place(text: str, id: str, line: int, tmp_path: Path) -> None:
    with pytest.raises(ImportInvalid) as caught:
        _compose(tmp_path, text)
    problem = caught.value.problems[0]
    assert problem.id == id
    assert problem.place is not None and problem.place.line == line


@pytest.mark.parametrize(
    ("text", "result", "used", "missing"),
    [
        ("$A-${A}", "1-1", ["A"], []),
        ("$$A", "$A", [], []),
        ("${B:-x} ${EMPTY:-y} ${EMPTY-z}", "x y ", ["EMPTY"], []),
        ("${A:+set} ${B+set}", "set ", [], []),
        ("${B:?why} $B", " ", [], ["B"]),
        ("a $ b ${", "a $ b ${", [], []),
        ("${B:-${A}}/${B:-${EMPTY:-${A:-z}}}", "1/1", ["A"], []),
        ("${A:-${B}}", "1", ["A"], []),
        ("${B:-${C}} ${B:-x", " ${B:-x", [], ["C"]),
    ],
)
def test_variables(text: str, result: str, used: list[str], missing: list[str]) -> None:
    value = parse_yaml(f"a: [{text!r}]", "f", Problems("x"))
    assert value is not None
    variables = Variables({"A": "1", "EMPTY": ""})
    assert variables.put_into(value).plain() == {"a": [result]}
    assert (list(variables.used), list(variables.missing)) == (used, missing)


def test_variables_come_from_the_environment_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text(
        "# a comment\nNM_A=file\nexport NM_B='quoted # no comment'\nNM_C=x # comment\n"
    )
    monkeypatch.setenv("NM_A", "environment")
    known = read_variables(tmp_path).known
    assert (known["NM_A"], known["NM_B"], known["NM_C"]) == ("environment", "quoted # no comment", "x")


@pytest.mark.parametrize(
    ("check", "ready"),
    [
        ("{test: curl -f http://x}", {"command": ["sh", "-c", "curl -f http://x"], "timeout": "3 min"}),
        (
            "{test: [CMD-SHELL, pg_isready], interval: 1m30s, timeout: 500ms, retries: 2, start_period: 1h}",
            {"command": ["sh", "-c", "pg_isready"], "timeout": "3781 s"},
        ),
        ("{test: [NONE]}", None),
        ("{test: [CMD, x], disable: true}", None),
        ("{test: []}", None),
        ("{interval: 1s}", None),
    ],
)
def test_health_checks(check: str, ready: dict[str, object] | None) -> None:
    value = parse_yaml(check, "f", Problems("x"))
    assert value is not None
    assert ready_of(value) == ready


@pytest.mark.parametrize(("text", "us"), [("1m30s", 90_000_000), ("1.5s", 1_500_000), ("5", 7), ("1y", 7)])
def test_times_of_compose(text: str, us: int) -> None:
    from orchestrator.errors import Place

    assert time_of(Value(text, Place("f")), 7) == us


def _compose(folder: Path, text: str, shape: str = "star", directory: Path | None = None) -> Imported:
    (folder / "docker-compose.yml").write_text(text)
    return importers.from_compose(folder / "docker-compose.yml", shape=shape, directory=directory or folder)
