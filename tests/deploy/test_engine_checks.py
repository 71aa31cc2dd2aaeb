"""Test the checks of the Docker engine."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from docker.errors import APIError

from orchestrator.deploy.docker.engine_checks import examine_engine

DOCKER = {"Version": "20.10.24", "Components": [{"Name": "Engine"}, {"Name": "containerd"}]}
PODMAN = {"Version": "4.3.1", "Components": [{"Name": "Podman Engine"}, {"Name": "Conmon"}]}
REFUSAL = "volume options size and inodes not supported. Filesystem does not support Project Quota"


def engine(version: dict[str, Any], refusal: str = "") -> Any:
    """An engine with all images that makes volumes, or refuses to."""
    made: list[str] = []

    def create_volume(name: str, **_: object) -> None:
        assert version is PODMAN, "Docker's engine is known to make them"
        if refusal:
            raise APIError("500 Server Error", explanation=refusal)
        made.append(name)

    api = SimpleNamespace(create_volume=create_volume, remove_volume=lambda name, force: made.remove(name))
    images = SimpleNamespace(list=lambda name: [name])
    client = SimpleNamespace(version=lambda: version, api=api, images=images)
    return cast(Any, SimpleNamespace(ask_now=lambda question: question(client), made=made))


def test_podman_that_makes_no_volumes_in_memory_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/podman/podman.sock")
    found = examine_engine(engine(PODMAN, REFUSAL))[0]
    assert (found.level, found.name) == ("problem", "docker engine")
    assert found.detail.startswith("Podman 4.3.1 answers in place of Docker") and REFUSAL in found.detail
    assert found.hint.startswith("unset DOCKER_HOST") and "--backend native" in found.hint


def test_podman_that_can_is_a_warning_and_nothing_of_the_trial_is_left() -> None:
    podman = engine(PODMAN)
    assert examine_engine(podman)[0].level == "warning"
    assert podman.made == []


def test_dockers_engine_is_asked_for_no_trial() -> None:
    assert [each.level for each in examine_engine(engine(DOCKER))] == ["ok"] * 4
