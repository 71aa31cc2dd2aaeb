"""Check that the Docker engine and the images fit the docker backend."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from orchestrator import __version__
from orchestrator.deploy.docker.engine import Engine
from orchestrator.deploy.host_checks import Finding
from orchestrator.errors import HostNotFit

if TYPE_CHECKING:
    from docker import DockerClient

# As the lab's own volumes for sockets; see `orchestrator.plan.containers`.
_IN_MEMORY = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=0700"}


def examine_engine(engine: Engine | None = None) -> list[Finding]:
    """Look at the engine and our images.

    Args:
        engine: The engine; our own unless a test gives another.
    """
    engine = engine or Engine()
    try:
        version = engine.ask_now(lambda client: client.version())
        lacking = engine.ask_now(_lacking) if _is_podman(version) else ""
    except HostNotFit as error:
        return [Finding("docker engine", "problem", error.message, error.hint or "")]
    findings = [_engine(version, lacking)]
    findings += [_image(engine, f"nm-{kind}:{__version__}") for kind in ("postgres", "controller", "node")]
    return findings


def _engine(version: Mapping[str, Any], lacking: str) -> Finding:
    number = version.get("Version", "unknown")
    if not _is_podman(version):
        return Finding("docker engine", "ok", f"version {number} answers")
    detail = f"Podman {number} answers in place of Docker"
    other = "unset DOCKER_HOST" if "DOCKER_HOST" in os.environ else "stop Podman's service"
    hint = f"{other} to use Docker's own engine, or use `--backend native`"
    if lacking:
        return Finding("docker engine", "problem", f"{detail}, and {lacking}", hint)
    return Finding("docker engine", "warning", f"{detail}; labs are tested with Docker's engine alone", hint)


def _is_podman(version: Mapping[str, Any]) -> bool:
    return any("podman" in str(each.get("Name", "")).lower() for each in version.get("Components") or ())


def _lacking(client: DockerClient) -> str:
    """Try what Podman's API may lack and every lab needs; say what it is, or nothing."""
    from docker.errors import APIError

    name = f"nm-probe-{secrets.token_hex(6)}"
    try:
        client.api.create_volume(name, driver="local", driver_opts=_IN_MEMORY, labels={"nm.role": "probe"})
    except APIError as error:
        return f"it makes no volumes in memory of a bounded size: {error.explanation}"
    client.api.remove_volume(name, force=True)
    return ""


def _image(engine: Engine, name: str) -> Finding:
    if engine.ask_now(lambda client: client.images.list(name=name)):
        return Finding(f"image {name}", "ok", "is there")
    return Finding(f"image {name}", "problem", "is not there", "`make images` builds it")
