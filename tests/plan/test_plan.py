"""Test deployment plans: addresses, ports, sockets and permissions."""

from __future__ import annotations

import dataclasses

import pytest

from orchestrator import plan, topology
from orchestrator.errors import UsageError
from orchestrator.plan import Database, DeploymentPlan, Images, Secrets, ServicePlan

RING = topology.loads("name: ring\ntopology: {type: ring, n_nodes: 4}")
SECRETS = Secrets(
    node_key="node-secret",
    operator_token="operator-secret",
    link_secret="link-secret",
    db_password="db-secret",
)


def test_the_same_input_makes_the_same_plan() -> None:
    assert plan.build(RING, secrets=SECRETS) == plan.build(RING, secrets=SECRETS)


def test_secrets_are_new_each_time_and_never_shown() -> None:
    one, other = plan.build(RING), plan.build(RING)
    words = {word for each in (one, other) for word in dataclasses.asdict(each.secrets).values()}
    assert len(words) == 8
    assert all(len(word) >= 43 for word in words)  # 256 bits
    shown = repr(one)
    assert not any(word in shown for word in words)


def test_native_nodes_live_on_loopback_and_take_any_port() -> None:
    made = plan.build(
        RING, controller_port=21_000, db=Database(host="/run/db", password="x"), secrets=SECRETS
    )
    node = made.nodes[0]
    assert node.controller_addr == made.controller_url == "ws://127.0.0.1:21000/control"
    assert (node.private_network_addr, node.private_network_port) == ("127.0.0.1", 0)
    assert (made.controller.host, made.controller.port) == ("127.0.0.1", 21_000)
    assert made.controller.db.host == "/run/db"
    assert made.services == ()


def test_an_external_node_beside_containers_reaches_what_it_needs_on_loopback_and_nothing_else() -> None:
    made = _docker(external=[1], link_ports={2: 22_002, 4: 22_004})
    external, beside, far = made.nodes[0], made.nodes[1], made.nodes[2]
    assert made.external == (1,)
    assert external.controller_addr == "ws://127.0.0.1:21000/control"
    assert not external.enable_local_interface
    assert external.private_network_name != beside.private_network_name == far.private_network_name
    assert (beside.public_network_addr, far.public_network_addr) == ("127.0.0.1:22002", "")
    assert made.controller.public_network_addrs == {2: "127.0.0.1:22002", 4: "127.0.0.1:22004"}
    ports = {service.name: service.ports for service in made.services}
    assert "node-1" not in ports
    assert ports["node-2"] == ("127.0.0.1:22002:8080",)
    assert ports["node-3"] == ports["postgres"] == ()
    assert all(port.startswith("127.0.0.1:") for given in ports.values() for port in given)


def test_containers_have_no_more_rights_than_they_need() -> None:
    for service in _docker().services:
        is_node = service.name.startswith("node-")
        assert service.cap_add == (("NET_ADMIN", "DAC_OVERRIDE", "SETPCAP") if is_node else ())
        assert 0 < service.pids_limit <= 4096
        assert all(":size=" in folder for folder in service.tmpfs)
        assert service.devices == (("/dev/net/tun:/dev/net/tun",) if is_node else ())
        assert service.labels["nm.lab"] == "ring"
        assert service.labels["nm.run"] == "7f3c"


def test_postgres_is_reached_through_a_volume_that_nodes_do_not_have() -> None:
    made = _docker()
    services = {service.name: service for service in made.services}
    assert not services["postgres"].networked and services["postgres"].ports == ()
    holders = [name for name, service in services.items() if "socket" in service.volumes]
    assert holders == ["postgres", "controller"]
    assert made.controller.db.host == services["controller"].volumes["socket"]


def test_containers_start_in_the_order_of_their_needs() -> None:
    services = {service.name: service for service in _docker().services}
    assert services["postgres"].depends_on == ()
    assert services["controller"].depends_on == ("postgres",)
    assert services["node-3"].depends_on == ("controller",)
    assert all("python" not in " ".join(service.healthcheck.test) for service in services.values())


def test_names_and_labels_of_a_named_node() -> None:
    lab = topology.loads("name: x\nn_nodes: 2\nnodes: {2: {name: trainer}}")
    service = _service(plan.build(lab, backend="docker", run_id="7f3c"), "node-2")
    assert (service.container_name, service.hostname, service.labels["nm.node"]) == (
        "nm-x-trainer",
        "trainer",
        "2",
    )


def test_an_image_is_built_with_the_image_of_the_nodes_as_an_argument_which_may_be_another() -> None:
    text = """
n_nodes: 1
services:
  one: {nodes: 1, build: "."}
  two: {nodes: 1, build: {context: ".", args: {NODE_IMAGE: other, KEY: value}}}
"""
    made = plan.build(topology.loads(text), backend="docker", images=Images.of_version("7"))
    one, two = (each.settings["build"]["args"] for each in made.user_containers)
    assert one == {"NODE_IMAGE": "nm-node:7"}
    assert two == {"NODE_IMAGE": "other", "KEY": "value"}


def test_the_lab_may_be_called_otherwise() -> None:
    made = plan.build(RING, lab="other", backend="docker")
    assert {node.lab for node in made.nodes} == {"other"}
    assert made.network is not None
    assert made.network.name == "nm-other"


@pytest.mark.parametrize("name", ["../x", "a b", "X", "", "-a", "a" * 41, "a;b", "a\nb", "$(x)"])
def test_lab_names_that_could_leave_their_place_are_refused(name: str) -> None:
    if not name:
        assert plan.build(RING, lab=name).lab == "ring"
        return
    with pytest.raises(UsageError, match="cannot be a lab's name"):
        plan.build(RING, lab=name)


def test_an_external_node_has_to_be_in_the_topology() -> None:
    with pytest.raises(UsageError, match="node 9 cannot be external"):
        plan.build(RING, external=[2, 9])


@pytest.mark.parametrize(
    ("subnet", "id", "hint"),
    [
        ("172.28.0.0/30", "subnet.too-small", "a /29 is large enough"),
        ("10.0.5.0/24", "subnet.overlap", None),
        ("no-subnet", "subnet.invalid", None),
        ("172.28.0.1/24", "subnet.invalid", None),
    ],
)
def test_a_subnet_that_cannot_be_used_is_refused(subnet: str, id: str, hint: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        _docker(subnet=subnet)
    assert (caught.value.id, caught.value.hint) == (id, hint)


def test_the_smallest_subnet_that_fits_is_taken() -> None:
    assert _docker(subnet="172.28.0.0/29").network is not None


def _docker(
    *, external: list[int] | None = None, link_ports: dict[int, int] | None = None, subnet: str | None = None
) -> DeploymentPlan:
    return plan.build(
        RING,
        backend="docker",
        run_id="7f3c",
        external=external or [],
        controller_port=21_000,
        link_ports=link_ports,
        subnet=subnet,
    )


def _service(made: DeploymentPlan, name: str) -> ServicePlan:
    return next(service for service in made.services if service.name == name)
