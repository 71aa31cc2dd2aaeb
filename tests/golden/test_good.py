"""Compare rendered files with stored ones, and read them back.

`good/NAME/topology.yaml` goes with the files in `good/NAME/native` and `good/NAME/docker`. After a deliberate
change, `NM_UPDATE_GOLDEN=1 pytest tests/golden` writes the new ones; read the difference before it is
committed.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

import pytest

from orchestrator import plan, render, settings, topology
from orchestrator.plan import DeploymentPlan, Images, NodePlan, Secrets

HERE = Path(__file__).parent
UPDATE = os.environ.get("NM_UPDATE_GOLDEN") == "1"
CASES = [
    (path.parent.name, backend)
    for path in sorted(HERE.glob("good/*/topology.yaml"))
    for backend in ("native", "docker")
]


@pytest.mark.parametrize(("name", "backend"), CASES)
def test_what_is_rendered_is_known_to_the_byte(name: str, backend: str) -> None:
    folder = HERE / "good" / name / backend
    files = {file.name: file.text for file in render.render(planned(name, backend))}
    if UPDATE:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for file, text in files.items():
            (folder / file).write_text(text)
    assert files == {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.parametrize(("name", "backend"), CASES)
def test_settings_read_back_what_render_writes(name: str, backend: str, tmp_path: Path) -> None:
    made = planned(name, backend)
    directory = render.write(made, tmp_path / "run")
    for node in made.nodes:
        read = dataclasses.asdict(settings.load_node(directory.node(node.node_id)))
        lossless = read.pop("lossless")
        meant = dataclasses.asdict(node)
        (
            meant.pop("hostname"),
            meant.pop("sysctls"),
            meant.pop("outside"),
        )  # what the machine has before the file is read
        assert meant.pop("file") == directory.node(node.node_id).name
        assert {key: meant.pop(key) for key in lossless} == lossless
        assert meant == {key: read[key] for key in meant}
        assert read.keys() - meant.keys() == {"path", "network_namespace"}
    _compare_controller(settings.load_controller(directory.controller), made)


@pytest.mark.parametrize(("name", "backend"), CASES)
def test_the_packet_core_reads_what_render_writes(name: str, backend: str, tmp_path: Path) -> None:
    """The core is as strict as we are; past the file, it fails only because nobody answers."""
    import nextmini_py

    made = planned(name, backend)
    node = made.nodes[-1]
    quick = dataclasses.replace(
        node,
        controller_addr="ws://127.0.0.1:1/control",
        controller_connect_timeout_ms=1,
        private_network_port=0,  # the process has one listener, and this test runs many nodes
    )
    directory = render.write(dataclasses.replace(made, nodes=(quick,)), tmp_path / "run")
    with pytest.raises(nextmini_py.ControllerUnreachable):
        nextmini_py.Dataplane(str(directory.node(node.node_id)))


@pytest.mark.parametrize("name", sorted({name for name, _ in CASES}))
def test_the_resolved_topology_means_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    meant = planned(name, "native").topology
    monkeypatch.chdir(HERE / "good" / name / "native")  # where the files of traces are
    read = topology.load("topology.yaml")
    assert dataclasses.replace(read, file=meant.file) == meant


def test_every_node_key_is_written() -> None:
    template = (Path(__file__).parents[2] / "compose" / "node.toml.j2").read_text()
    elsewhere = ("file", "hostname", "sysctls", "outside")
    for field in dataclasses.fields(NodePlan):
        assert field.name in elsewhere or f"\n{field.name} = {{{{ node.{field.name} | toml }}}}\n" in template


def planned(name: str, backend: str) -> DeploymentPlan:
    """Return the plan of a case, with everything fixed that is usually drawn or depends on the version."""
    path = HERE / "good" / name / "topology.yaml"
    lines = path.read_text().splitlines()
    options = [line.removeprefix("# --external ") for line in lines if line.startswith("# --external ")]
    made = plan.build(
        topology.load(path),
        backend=backend,
        run_id="7f3c",
        external=[int(node) for node in options],
        controller_port=21_000,
        secrets=Secrets(
            node_key="node-secret",
            operator_token="operator-secret",
            link_secret="link-secret",
            db_password="db-secret",
        ),
        subnet="172.28.9.0/24" if backend == "docker" else None,
        images=Images.of_version("0.0.0"),
    )
    return dataclasses.replace(made, version="0.0.0")


def _compare_controller(read: settings.ControllerSettings, made: DeploymentPlan) -> None:
    meant = made.controller
    plain = {"routing", "lab", "seed", "backend", "host", "port", "node_key", "operator_token"}
    plain |= {"link_secret"}
    plain |= {"base_addr", "net_mask", "ready_timeout_ms", "protocol", "scheduler_type", "max_server_port"}
    assert {key: getattr(read, key) for key in plain} == {key: getattr(meant, key) for key in plain}
    assert dataclasses.asdict(read.db) == dataclasses.asdict(meant.db)
    assert read.n_nodes == len(made.topology.nodes)
    for entry, node in zip(read.nodes, meant.nodes, strict=True):
        assert (entry.node_id, entry.name, entry.labels) == (node.id, node.name, node.labels)
        assert (entry.external, entry.mtu, entry.operating_mode) == (
            node.external,
            node.mtu,
            node.operating_mode,
        )
        assert entry.public_network_addr == meant.public_network_addrs.get(node.id, "")
    for link, wanted in zip(read.links, meant.links, strict=True):
        assert (link.a, link.b, link.forward, link.backward) == (
            wanted.a,
            wanted.b,
            wanted.forward,
            wanted.backward,
        )
    for route, path in zip(read.routes, meant.routes, strict=True):
        assert (route.src, route.dst, route.edges) == (path.src, path.dst, path.edges)
