"""Test the reader of compose files; a system test compares it with Compose."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator import plan, render, topology
from orchestrator.deploy.docker import compose_file
from orchestrator.plan import DeploymentPlan
from tests.render.test_writing import RING


@pytest.fixture
def planned() -> DeploymentPlan:
    return plan.build(RING, lab="ring", backend="docker", home="/home/me/.nm", subnet="172.28.5.0/24")


def read(planned: DeploymentPlan, folder: Path) -> compose_file.Composition:
    return compose_file.read(render.write(planned, folder).compose, "ring")


def test_the_parts_come_in_the_order_in_which_they_are_started(
    planned: DeploymentPlan, tmp_path: Path
) -> None:
    found = read(planned, tmp_path)
    assert [service.name for service in found.services] == [
        "postgres",
        "controller",
        *(f"node-{n}" for n in range(1, 5)),
    ]
    assert (found.network.name, found.network.subnet) == ("nm-ring", "172.28.5.0/24")
    links = {volume.name: dict(volume.options) for volume in found.volumes}
    assert links["nm-ring-links"]["type"] == "tmpfs" and links["nm-ring-postgres"] == {}
    assert not found.services[0].networked and found.services[0].host["network_mode"] == "none"
    assert found.images == sorted({planned.images.node, planned.images.controller, planned.images.postgres})


def test_a_node_is_as_small_as_the_file_says(planned: DeploymentPlan, tmp_path: Path) -> None:
    node = read(planned, tmp_path).services[2]
    assert node.container == "nm-ring-node-1"
    assert node.host["cap_drop"] == ["ALL"]
    assert node.host["cap_add"] == ["NET_ADMIN", "DAC_OVERRIDE", "SETPCAP"]
    assert node.host["pids_limit"] == 4096 and node.host["tmpfs"]["/tmp"] == "size=1g"
    assert node.host["read_only"] is True
    assert node.host["network_mode"] == "nm-ring"
    mounts = {
        mount["Target"]: (mount["Type"], mount["Source"], mount["ReadOnly"]) for mount in node.host["mounts"]
    }
    assert mounts["/etc/nm/node-1.toml"] == ("bind", str(tmp_path / "node-1.toml"), True)
    assert mounts["/links"] == ("volume", "nm-ring-links", False)
    assert node.settings["healthcheck"]["interval"] == 30 * 10**9
    assert node.settings["stop_timeout"] == 5
    labels = node.settings["labels"]
    assert (labels["nm.node"], labels["com.docker.compose.service"]) == ("1", "node-1")
    assert labels["com.docker.compose.project"] == compose_file.project("ring") == "nm-ring"


def test_the_controller_is_published_on_loopback_alone(planned: DeploymentPlan, tmp_path: Path) -> None:
    controller = read(planned, tmp_path).services[1]
    [(inside, [outside])] = controller.host["port_bindings"].items()
    assert controller.settings["ports"] == [inside] == ["3000"]
    assert outside[0] == "127.0.0.1" and outside[1].isdigit()


def test_a_dollar_arrives_as_one(planned: DeploymentPlan, tmp_path: Path) -> None:
    odd = "$HOME ${x} $$ 100 %"
    services = tuple(
        replace(service, environment={**service.environment, "ODD": odd}) for service in planned.services
    )
    found = read(replace(planned, services=services), tmp_path)
    assert {service.settings["environment"]["ODD"] for service in found.services} == {odd}


def test_containers_that_end_are_started_again_unless_nobody_wants_it(
    planned: DeploymentPlan, tmp_path: Path
) -> None:
    for restart, policy in (
        (True, {"Name": "on-failure", "MaximumRetryCount": 20}),
        (False, {"Name": "no"}),
    ):
        found = read(replace(planned, restart=restart), tmp_path)
        assert [service.host["restart_policy"] for service in found.services] == [policy] * 6


def test_an_engine_may_choose_the_subnet(tmp_path: Path) -> None:
    meant = topology.loads("name: ring\ntopology: {type: ring, n_nodes: 4}\n")
    found = read(plan.build(meant, lab="ring", backend="docker"), tmp_path)
    assert found.network.subnet is None


def test_a_service_has_the_network_of_its_node_and_what_its_image_has(tmp_path: Path) -> None:
    text = (
        "topology: {type: ring, n_nodes: 3}\nnodes: {2: {name: db}}\nservices:\n"
        "  redis: {nodes: 2, image: 'redis:7', command: [a, $B], entrypoint: [], environment: {C: $D},\n"
        "    gpus: all, volumes: ['data:/data', './x:/x:ro', /y], mem_limit: 64m, cpus: 0.5,\n"
        "    tmpfs: '/t:size=1m', cap_add: NET_RAW, devices: /dev/fuse, user: '5',\n"
        "    restart: 'on-failure:3', working_dir: /w}\n"
        "  own: {nodes: 1, command: [python3, -V], depends_on: [redis]}\n"
        "  built: {nodes: 1, build: {context: ., target: x}}\n"
    )
    meant = topology.loads(text, str(tmp_path / "lab.yaml"))
    planned = plan.build(meant, lab="l", backend="docker", subnet="172.28.5.0/24")
    found = compose_file.read(render.write(planned, tmp_path / "run").compose, "l")
    redis, own, built = found.user
    assert len(found.parts) == 5
    assert redis.name not in {each.name for each in found.parts} and "redis:7" not in found.images
    assert (redis.container, redis.host["network_mode"]) == ("nm-l-db.redis", "container:nm-l-db")
    assert (redis.settings["entrypoint"], redis.settings["command"]) == ([""], ["a", "$B"])
    assert redis.settings["environment"] == {"C": "$D"}
    assert "hostname" not in redis.settings and "cap_drop" not in redis.host
    mounts = [(each["Type"], each["Source"], each["Target"]) for each in redis.host["mounts"]]
    assert mounts == [
        ("bind", str(tmp_path / "run" / "hosts"), "/etc/hosts"),
        ("volume", "nm-l-db.data", "/data"),
        ("bind", str(tmp_path / "x"), "/x"),
        ("volume", None, "/y"),
    ]
    assert redis.host["nano_cpus"] == 500_000_000 and redis.host["mem_limit"] == 64 * 2**20
    assert redis.host["restart_policy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert redis.host["tmpfs"] == {"/t": "size=1m"} and redis.host["devices"] == ["/dev/fuse:/dev/fuse"]
    assert redis.host["device_requests"] == [{"Driver": "nvidia", "Count": -1, "Capabilities": [["gpu"]]}]
    assert (own.image, own.settings["entrypoint"]) == (planned.images.node, ["python3"])
    assert own.after == ("node-1", "node-2.redis")
    args = {"NODE_IMAGE": "nm-node:0.1.0"}
    assert (
        built.build == {"context": str(tmp_path), "target": "x", "args": args} and built.image == "nm-l-built"
    )
    assert "nm-l-db.data" in {volume.name for volume in found.volumes}


def test_a_port_may_be_published_at_several_addresses(planned: DeploymentPlan, tmp_path: Path) -> None:
    ports = ("127.0.0.1:21000:3000", "[2001:db8::7]:21000:3000")
    services = tuple(
        replace(each, ports=ports) if each.name == "controller" else each for each in planned.services
    )
    controller = read(replace(planned, services=services), tmp_path).services[1]
    assert controller.settings["ports"] == ["3000"]
    bindings = controller.host["port_bindings"]
    assert bindings == {"3000": [("127.0.0.1", "21000"), ("2001:db8::7", "21000")]}
