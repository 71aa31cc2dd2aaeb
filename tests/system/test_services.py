"""Services of a lab of containers: any image, in the network of its node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator import __version__
from orchestrator.deploy.home import Home
from orchestrator.errors import HostNotFit
from orchestrator.lab import Lab
from orchestrator.services import ServiceFailed
from orchestrator.testing.plugin import Labs
from tests.integration.waiting import until

DOCKERFILE = f"""\
FROM nm-node:{__version__}
ENV GREETING=hello
WORKDIR /srv
ENTRYPOINT ["tini", "--", "python3", "-u", "-m", "http.server"]
CMD ["1"]
"""
TEXT = """\
name: services
topology: {type: line, n_nodes: 2}
nodes: {1: {name: web}}
services:
  page:
    nodes: 1
    build: image
    command: "8000"
    volumes: ["data:/srv"]
    restart: always
    ready: {http: 8000/}
  reader:
    nodes: 2
    command: [python3, -c, "import urllib.request as u; print(u.urlopen('http://web:8000').status)"]
    depends_on: [page]
"""


@pytest.fixture(scope="module")
def lab(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("files")
    (folder / "image").mkdir()
    (folder / "image" / "Dockerfile").write_text(DOCKERFILE)
    (folder / "lab.yaml").write_text(TEXT)
    labs = Labs(home)
    try:
        yield labs.up(folder / "lab.yaml", backend="docker")
    finally:
        labs.end()


def test_images_run_unmodified_in_the_network_of_their_nodes(lab: Lab, tmp_path: Path) -> None:
    reader = lab.node(2).service("reader")
    until(lambda: reader.status().state == "exited")
    assert [line for line in reader.logs() if line] == ["200"]
    page = lab.node("web").service("page")
    assert page.run("sh -c 'echo $GREETING; pwd'").stdout == "hello\n/srv\n"
    (tmp_path / "file").write_text("text")
    lab.node(1).copy_to(tmp_path / "file", "/tmp/there")
    lab.node(1).copy_from("/tmp/there", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "text"


def test_a_service_comes_back_with_its_node_and_on_request(lab: Lab) -> None:
    page = lab.node("web").service("page")
    lab.node(1).kill()
    assert page.status().state == "stopped"
    lab.node(1).start()
    until(lambda: page.status().state == "ready")
    page.restart()
    assert lab.status().state == "ready"
    fetch = ["python3", "-c", "import urllib.request as u; print(u.urlopen('http://web:8000').status)"]
    assert lab.node(2).run(fetch).stdout == "200\n"


def test_an_image_that_is_not_there_is_said_before_anything_runs(home: Home) -> None:
    text = "name: none\nn_nodes: 1\nservices: {\n  it: {nodes: 1, image: 'localhost:1/nosuch'}}\n"
    with pytest.raises(HostNotFit) as caught:
        Labs(home).up(text, backend="docker")
    assert caught.value.id == "docker.no-image"
    assert caught.value.found == "localhost:1/nosuch"
    assert not home.lab("none").exists()


def test_a_service_that_dies_five_times_makes_the_start_fail(home: Home) -> None:
    keys = "command: [sh, -c, 'echo last words; exit 3'], restart: always, ready: {tcp: 9}"
    with pytest.raises(ServiceFailed) as caught:
        Labs(home).up(f"name: bad\nn_nodes: 1\nservices:\n  dies: {{nodes: 1, {keys}}}\n", backend="docker")
    assert "service dies in node 1 of lab bad ended 5 times" in caught.value.message
    assert caught.value.lines[-1] == "last words"
    assert not home.lab("bad").exists()
