"""Build the services of a topology, and check what they say about nodes, each other and ports."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.errors import Place, nearest_hint
from orchestrator.source import Problems, Value
from orchestrator.topology.model import Node
from orchestrator.topology.nodes import read_selector
from orchestrator.topology.service_model import HEALTHY, STARTED, Build, Ready, Service, Volume

__all__ = ["build_services", "in_order"]

Read = Mapping[str, Any]
_KINDS = ("tcp", "http", "command", "log")
_PLAIN = ("image", "command", "user", "working_dir", "tmpfs", "cap_add", "devices", "gpus", "mem_limit")
_VOLUME_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"


def build_services(
    root: Read, nodes: Mapping[int, Node], problems: Problems, folder: Path
) -> tuple[Service, ...]:
    """Return the services, each after those it depends on.

    Args:
        root: The file as read.
        nodes: The nodes of the topology.
        problems: Takes what is wrong.
        folder: What paths are relative to.
    """
    stated: Mapping[str, Read] = root.get("services", {})
    made = {name: _service(name, read, nodes, problems, folder) for name, read in stated.items()}
    _check_dependencies(stated, made, problems)
    _check_ports(made, problems)
    if problems:
        return tuple(made.values())
    return in_order(replace(each, depends_on=_conditions(each, made)) for each in made.values())


def in_order(services: Iterable[Service]) -> tuple[Service, ...]:
    """Services in an order in which each stands after those it depends on; there is no cycle."""
    todo = {service.name: service for service in services}
    done: dict[str, Service] = {}

    def place(service: Service) -> None:
        for name in service.depends_on:
            if name not in done:
                place(todo[name])
        done.setdefault(service.name, service)

    for service in todo.values():
        place(service)
    return tuple(done.values())


def _service(name: str, read: Read, nodes: Mapping[int, Node], problems: Problems, folder: Path) -> Service:
    value: Value = read["@"]
    if not any(value.get(key) for key in ("image", "build", "command", "entrypoint")):
        problems.add(
            f"service {name} has nothing to run",
            "service-empty",
            value.place,
            expected="one of `image`, `build`, `command`",
            hint="for example `command: python3 -m http.server 8000`",
        )
    plain = {key: read[key] for key in _PLAIN if key in read}
    return Service(
        name=name,
        nodes=_nodes(name, read, nodes, problems),
        build=_build(read.get("build"), folder),
        entrypoint=read.get("entrypoint"),
        environment=read.get("environment", {}),
        env_file=tuple(_absolute(file, folder) for file in read.get("env_file", ())),
        volumes=_volumes(name, read.get("volumes", ()), problems, folder),
        cpus=float(read.get("cpus", 0)),
        depends_on={other: condition for other, (condition, _) in read.get("depends_on", {}).items()},
        restart=read.get("restart", "no"),
        ready=_ready(name, read.get("ready"), problems),
        place=value.place,
        places=_places(value),
        **plain,
    )


def _conditions(service: Service, made: Mapping[str, Service]) -> dict[str, str]:
    """What is waited for; unless stated, that a service is ready, or started if it says no more."""
    return {
        other: condition or (HEALTHY if made[other].ready else STARTED)
        for other, condition in service.depends_on.items()
    }


def _places(value: Value) -> dict[str, Place]:
    return {key: value.key_place(key) for key in value.mapping or ()}


def _nodes(name: str, read: Read, nodes: Mapping[int, Node], problems: Problems) -> tuple[int, ...]:
    selector: Value | None = read.get("nodes")
    if selector is None:
        return ()
    chosen = read_selector(f"service {name}", selector, nodes, problems)
    outside = [node for node in chosen if nodes[node].external]
    if outside and "all" not in selector.text:
        problems.add(
            f"service {name} cannot run in node {outside[0]}, which is external",
            "service-external",
            selector.place,
            found=str(outside[0]),
            hint="nm starts nothing in an external node",
        )
    return tuple(node for node in chosen if node not in outside)


def _build(read: Read | str | None, folder: Path) -> Build | None:
    if read is None:
        return None
    if isinstance(read, str):
        return Build(context=_absolute(read, folder))
    return Build(
        context=_absolute(read.get("context", "."), folder),
        dockerfile=read.get("dockerfile", ""),
        target=read.get("target", ""),
        args={key: value or "" for key, value in read.get("args", {}).items()},
    )


def _volumes(
    name: str, read: Iterable[tuple[Any, Value]], problems: Problems, folder: Path
) -> tuple[Volume, ...]:
    found = []
    for stated, at in read:
        volume = _short_volume(stated) if isinstance(stated, str) else _long_volume(stated)
        if volume is None or (
            not re.match(r"[./~]", volume.source) and not re.fullmatch(_VOLUME_NAME, volume.source or "a")
        ):
            problems.add(
                f"service {name} has a volume `{at.text or at.describe()}`, which has no form that is known",
                "volume",
                at.place,
                found=at.text,
                expected="`./path:/target`, `/path:/target:ro`, `name:/target` or `/target`",
            )
            continue
        if re.match(r"[./~]", volume.source):
            source = _absolute(str(Path(volume.source).expanduser()), folder)
            volume = Volume(source=source, target=volume.target, read_only=volume.read_only)
        found.append(volume)
    return tuple(found)


def _short_volume(text: str) -> Volume | None:
    parts = text.split(":")
    mode = parts.pop() if len(parts) == 3 else "rw"
    source, target = parts if len(parts) == 2 else ("", parts[0])
    if len(parts) > 2 or mode not in ("ro", "rw") or not target.startswith("/"):
        return None
    return Volume(source=source, target=target, read_only=mode == "ro")


def _long_volume(read: Read) -> Volume | None:
    source, kind = read.get("source", ""), read.get("type", "bind")
    if "target" not in read:
        return Volume(source="", target="/")  # what is missing was noted
    if kind == "bind" and not re.match(r"[./~]", source):
        source = f"./{source}"
    return Volume(source=source, target=read["target"], read_only=read.get("read_only", False))


def _ready(name: str, read: Read | None, problems: Problems) -> Ready | None:
    if read is None:
        return None
    value: Value = read["@"]
    kinds = [kind for kind in _KINDS if value.get(kind) is not None]
    if len(kinds) != 1:
        problems.add(
            f"service {name} is ready by {' and '.join(kinds) or 'nothing'}, but one check is expected",
            "ready",
            value.place,
            found=", ".join(kinds) or None,
            expected="one of `tcp`, `http`, `command`, `log`",
            hint="for example `ready: {tcp: 6379}`",
        )
        return None
    [kind] = kinds
    if kind not in read:
        return None
    if kind == "log":
        try:
            re.compile(read["log"])
        except re.error as error:
            problems.add(
                f"log is `{read['log']}`, which is no regular expression: {error}",
                "ready",
                value.place_of("log"),
                found=read["log"],
                expected="a regular expression",
            )
            return None
    given = read[kind]
    times = {f"{key}_ms": read[key].us // 1000 for key in ("timeout", "interval") if key in read}
    return Ready(kind=kind, value=given if isinstance(given, tuple) else (str(given),), **times)


def _check_dependencies(stated: Mapping[str, Read], made: Mapping[str, Service], problems: Problems) -> None:
    for name, read in stated.items():
        for other, (condition, at) in read.get("depends_on", {}).items():
            known = [each for each in made if each != name]
            if other not in made:
                problems.add(
                    f"service {name} depends on `{other}`, which is no service",
                    "unknown-service",
                    at.place,
                    found=other,
                    expected="the name of a service",
                    hint=nearest_hint(other, known, what="services are"),
                )
            elif condition == HEALTHY and made[other].ready is None:
                problems.add(
                    f"service {name} waits until {other} is healthy, but {other} has no `ready`",
                    "service-condition",
                    at.place,
                    found=condition,
                    expected=f"`{STARTED}`, or `ready` in {other}",
                )
    cycle = _cycle({name: [o for o in each.depends_on if o in made] for name, each in made.items()})
    if cycle:
        problems.add(
            f"services depend on each other: {' → '.join(cycle)}",
            "service-cycle",
            made[cycle[0]].place_of("depends_on"),
            found=" → ".join(cycle),
            expected="an order in which they can be started",
        )


def _cycle(after: Mapping[str, list[str]]) -> list[str]:
    """A cycle, its first member again at the end; empty if there is none."""
    clear: set[str] = set()

    def follow(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in clear:
            return []
        for other in after[name]:
            if found := follow(other, [*path, name]):
                return found
        clear.add(name)
        return []

    for name in after:
        if found := follow(name, []):
            return found
    return []


def _check_ports(made: Mapping[str, Service], problems: Problems) -> None:
    taken: dict[tuple[int, str], str] = {}
    for name, service in made.items():
        if service.ready is None or service.ready.kind != "tcp":
            continue
        port = service.ready.value[0]
        for node in service.nodes:
            other = taken.setdefault((node, port), name)
            if other != name:
                problems.add(
                    f"services {other} and {name} both take port {port} in node {node}",
                    "service-port",
                    service.place_of("ready"),
                    found=port,
                    expected="a port of its own for every service of a node",
                    hint="one of them needs another port or another node",
                )
                break


def _absolute(path: str, folder: Path) -> str:
    return str((folder / path).absolute().resolve())
