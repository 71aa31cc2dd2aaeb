"""Services of a topology: their forms, their order, and what they need of this machine and of a backend."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator import topology
from orchestrator.errors import TopologyInvalid
from orchestrator.topology import Service, Topology

RING = "topology: {type: ring, n_nodes: 4}\nservices:\n"


def made(text: str, folder: Path = Path()) -> Topology:
    return topology.loads(RING + text, str(folder / "lab.yaml"))


def service(text: str) -> Service:
    [found] = made(f"  it: {{nodes: 1, {text}}}\n").services
    return found


def test_services_stand_after_those_they_depend_on() -> None:
    found = made(
        "  c: {nodes: 1, command: c, depends_on: [b]}\n"
        "  b: {nodes: all, command: b, depends_on: [a]}\n"
        "  a: {nodes: 2-3, command: a, ready: {log: up}}\n"
    ).services
    assert [(each.name, each.nodes) for each in found] == [("a", (2, 3)), ("b", (1, 2, 3, 4)), ("c", (1,))]


def test_a_dependency_waits_for_readiness_only_where_it_is_stated() -> None:
    found = made(
        "  a: {nodes: 1, command: a, ready: {tcp: 80}}\n  b: {nodes: 1, command: b}\n"
        "  c: {nodes: 1, command: c, depends_on: [a, b]}\n"
    ).services
    assert found[2].depends_on == {"a": "service_healthy", "b": "service_started"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("command: redis-server --port 1", ("redis-server", "--port", "1")),
        ("command: [redis-server, --port, 1]", ("redis-server", "--port", "1")),
        ("command: [sh, -c, 'a $HOME\n\n  b']", ("sh", "-c", "a $HOME\nb")),
        ("command: \"sh -c 'a; b'\"", ("sh", "-c", "a; b")),
    ],
)
def test_a_command_is_text_or_words(text: str, words: tuple[str, ...]) -> None:
    assert service(text).command == words


def test_variables_are_a_mapping_or_a_list_and_files_come_before_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vars").write_text('# comment\nA=file\nB="in quotes"\nHERE\n')
    monkeypatch.setenv("HERE", "ours")
    both = made(
        "  map: {nodes: 1, command: a, environment: {A: 1, HERE: null}, env_file: vars}\n"
        "  list: {nodes: 1, command: a, environment: [A=1, HERE], env_file: [vars]}\n",
        tmp_path,
    ).services
    for each in both:
        assert topology.environment_of(each) == {"A": "1", "B": "in quotes", "HERE": "ours"}


def test_memory_is_read_as_compose_reads_it() -> None:
    found = service("command: a, mem_limit: 512m, cpus: 0.5")
    assert (found.mem_limit, found.cpus) == (512 * 2**20, 0.5)


def test_an_address_of_http_may_be_short() -> None:
    ready = service("command: a, ready: {http: 8080/health}").ready
    assert ready is not None
    assert ready.value == ("http://127.0.0.1:8080/health",)


def test_what_is_dumped_is_read_back_equal(tmp_path: Path) -> None:
    full = made(
        "  full: {nodes: 1, image: 'redis:7', build: {context: ., target: x, args: {A: 1}}, command: [a, b],"
        " entrypoint: [], environment: {A: '1', B: null}, env_file: v, volumes: ['./d:/d:ro', 'n:/n', /x],"
        " user: '1000:5', working_dir: /w, tmpfs: /t, cap_add: NET_RAW, devices: ['/dev/fuse'], gpus: all,"
        " mem_limit: 1g, cpus: 2, restart: 'on-failure:3', ready: {command: redis-cli ping, timeout: 5 s}}\n"
        "  next: {nodes: all, command: 'a \"b c\"', depends_on: {full: {condition: service_started}}}\n",
        tmp_path,
    )
    again = topology.loads(topology.dump(full), "/elsewhere/lab.yaml")
    assert again.services == full.services
    assert full.services[0].volumes[0].source == str(tmp_path / "d")


def test_files_that_are_not_there_are_all_named_at_their_places(tmp_path: Path) -> None:
    meant = made("  a: {nodes: 1, build: b, env_file: e, volumes: ['./v:/v']}\n", tmp_path)
    with pytest.raises(TopologyInvalid) as caught:
        topology.check_services(meant)
    found = {problem.id: problem for problem in caught.value.problems}
    assert set(found) == {"topology.service-volume", "topology.service-file", "topology.service-build"}
    place = found["topology.service-volume"].place
    assert place is not None
    assert place.line == 3
    assert found["topology.service-volume"].found == str(tmp_path / "v")


def test_keys_without_meaning_are_refused_or_ignored_by_name_natively(tmp_path: Path) -> None:
    ignored = topology.check_services(made("  a: {nodes: 1, image: i, command: c, gpus: all}\n"), "native")
    assert [problem.found for problem in ignored] == ["image", "gpus"]
    meant = made(
        "  a: {nodes: 1, command: c, tmpfs: /t, cpus: 1, mem_limit: 1g}\n  b: {nodes: 1, image: i}\n"
    )
    with pytest.raises(TopologyInvalid) as caught:
        topology.check_services(meant, "native")
    assert [problem.found for problem in caught.value.problems] == ["tmpfs", "cpus", "mem_limit", None]
    assert caught.value.problems[-1].id == "topology.service-command"
    assert topology.check_services(meant, "docker") == ()


def test_a_file_of_the_machine_at_its_own_place_is_no_mount_natively(tmp_path: Path) -> None:
    meant = made(f"  a: {{nodes: 1, command: c, volumes: ['{tmp_path}:{tmp_path}']}}\n")
    assert topology.check_services(meant, "native") == ()


@pytest.mark.parametrize(
    ("service", "backend", "says"),
    [
        ("image: i, ready: {tcp: 8080}", None, "where the container of its node takes links"),
        ("command: c, ready: {tcp: 8080}", "docker", "where the container of its node takes links"),
        ("command: c, ready: {http: 8080/health}", "docker", "where the container of its node takes links"),
        ("command: c, ready: {http: 'http://10.0.0.2:8080/'}", "docker", ""),
        ("command: c, ready: {tcp: 8080}", "native", ""),
        ("command: c, ready: {tcp: 8080}", None, ""),
        ("command: c, ready: {tcp: 8081}", "native", ""),
        ("command: c, ready: {tcp: 9050}", "native", "where node 1 takes SOCKS5"),
    ],
)
def test_a_service_at_a_port_of_its_node_is_refused(service: str, backend: str | None, says: str) -> None:
    meant = topology.loads(
        "name: ports\nn_nodes: 2\nnodes: {1: {operating_mode: max, socks5: {port: 9050}}}\n"
        f"services:\n  a: {{nodes: 1, {service}}}\n"
    )
    if not says:
        topology.check_services(meant, backend)
        return
    with pytest.raises(TopologyInvalid) as caught:
        topology.check_services(meant, backend)
    (problem,) = caught.value.problems
    assert says in problem.message and problem.id == "topology.service-port"
    assert problem.place is not None and problem.place.line == 5
