"""Check what services need of this machine and of a backend, before anything is started."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from orchestrator.errors import Problem, TopologyInvalid
from orchestrator.source import Problems
from orchestrator.topology.model import Topology
from orchestrator.topology.service_model import LINK_PORT, Ready, Service

__all__ = ["check_services", "environment_of"]

_REFUSED = {
    "volumes": "nodes share the files of the machine, so nothing can be mounted for one service alone",
    "tmpfs": "nodes share the files of the machine, so nothing can be mounted for one service alone",
    "mem_limit": "the memory of a process cannot be limited there",
    "cpus": "the processors of a process cannot be limited there",
}
_IGNORED = {
    "image": "the machine's own program runs",
    "build": "the machine's own program runs",
    "cap_add": "a process has the capabilities of its lab",
    "devices": "a process sees the machine's devices",
    "gpus": "a process sees the machine's devices",
}


def check_services(topology: Topology, backend: str | None = None) -> tuple[Problem, ...]:
    """Check the files that services name, and, with a backend, the keys that mean something there.

    Returns:
        What is ignored on the backend, as warnings.

    Raises:
        TopologyInvalid: A file is missing, or a key has no meaning on the backend.
    """
    problems = Problems("topology")
    warnings: list[Problem] = []
    for service in topology.services:
        _check_files(service, problems)
        if backend == "native":
            warnings += _check_native(service, problems)
        # With neither a backend nor an image, it may be one for native nodes.
        docker = backend == "docker" or (backend is None and bool(service.image or service.build))
        _check_port(topology, service, docker, problems)
    problems.raise_as(TopologyInvalid, topology.file)
    return tuple(warnings)


def environment_of(service: Service, ours: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables of a service: those of its files, then its own; one without a value is taken from ours.

    Raises:
        OSError: A file cannot be read.
    """
    found: dict[str, str] = {}
    here = os.environ if ours is None else ours
    for file in service.env_file:
        for line in Path(file).read_text().splitlines():
            key, equals, text = line.strip().partition("=")
            if not key or key.startswith("#"):
                continue
            if equals:
                found[key.strip()] = _unquoted(text.strip())
            elif key in here:
                found[key] = here[key]
    for key, value in service.environment.items():
        if value is not None:
            found[key] = value
        elif key in here:
            found[key] = here[key]
    return found


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'" else text


def _check_files(service: Service, problems: Problems) -> None:
    for volume in service.volumes:
        if volume.is_bind and not Path(volume.source).exists():
            problems.add(
                f"service {service.name} mounts {volume.source}, which is not there",
                "service-volume",
                service.place_of("volumes"),
                found=volume.source,
                expected="a file or folder of this machine",
                hint="make it first; paths are relative to the topology file",
            )
    for file in service.env_file:
        if not os.access(file, os.R_OK) or not Path(file).is_file():
            problems.add(
                f"service {service.name} reads variables from {file}, which cannot be read",
                "service-file",
                service.place_of("env_file"),
                found=file,
                expected="a file with a `KEY=value` in each line",
            )
    if service.build is not None:
        dockerfile = Path(service.build.context, service.build.dockerfile or "Dockerfile")
        if not dockerfile.is_file():
            problems.add(
                f"service {service.name} is built from {dockerfile}, which is not there",
                "service-build",
                service.place_of("build"),
                found=str(dockerfile),
                expected="a folder with a Dockerfile",
            )


def _check_native(service: Service, problems: Problems) -> Iterator[Problem]:
    shared = [volume for volume in service.volumes if volume.source == volume.target]
    for key in service.stated():
        if key in _REFUSED and not (key == "volumes" and len(shared) == len(service.volumes)):
            problems.add(
                f"`{key}` of service {service.name} has no meaning on the native backend",
                "service-key",
                service.place_of(key),
                found=key,
                expected="keys that a process of this machine can have",
                hint=f"{_REFUSED[key]}; remove it, or use `--backend docker`",
            )
        elif key in _IGNORED and service.command:
            yield Problem(
                f"`{key}` of service {service.name} is ignored on the native backend: {_IGNORED[key]}",
                "topology.service-ignored",
                service.place_of(key),
                found=key,
            )
    if not service.command and not service.entrypoint:
        problems.add(
            f"service {service.name} has no `command`, and the native backend has no images",
            "service-command",
            service.place,
            expected="command",
            hint="say what is run, or use `--backend docker`",
        )


def _check_port(topology: Topology, service: Service, docker: bool, problems: Problems) -> None:
    """Note a service that is ready at a port at which its node listens itself."""
    port = _local_port(service.ready) if service.ready is not None else None
    if port is None:
        return
    nodes = [topology.nodes[number] for number in service.nodes]
    socks = next((n.id for n in nodes if n.operating_mode == "max" and n.max_server_port == port), None)
    if docker and port == LINK_PORT:
        why, hint = "where the container of its node takes links", "natively that port is free"
    elif socks is not None:
        why, hint = (
            f"where node {socks} takes SOCKS5",
            "or give the node another one with `socks5: {port: …}`",
        )
    else:
        return
    problems.add(
        f"service {service.name} is ready at port {port}, {why}",
        "service-port",
        service.place_of("ready"),
        found=str(port),
        expected="a port that is free in the node",
        hint=f"let it listen at another port, such as 8000; {hint}",
    )


def _local_port(ready: Ready) -> int | None:
    """Return the port of the service's own network at which it is ready, if it is one."""
    if ready.kind == "tcp":
        return int(ready.value[0])
    if ready.kind != "http":
        return None
    url = urlsplit(ready.value[0])
    return url.port if url.hostname in ("127.0.0.1", "localhost", "::1") else None
