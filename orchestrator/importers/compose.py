"""Turn a Compose file into a topology: a node for each service, and the services that run in them.

What a service reaches by name is the node of the other service, so a program finds its database as before.
Published ports, several networks and what else has no counterpart is noted.

Source:
    https://docs.docker.com/reference/compose-file/
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

from orchestrator.errors import UsageError
from orchestrator.importers.compose_service import Paths, Service, read_service
from orchestrator.importers.draft import Draft, Imported, node_name
from orchestrator.importers.variables import read_variables
from orchestrator.importers.yamlfile import entries, items, raise_problems, read_document, text_of
from orchestrator.source import Problems, Value, named
from orchestrator.topology.writing import flow, word

__all__ = ["read"]

_LEAST = {"star": 1, "ring": 3, "line": 2, "full_mesh": 2}
_SHARED = "service:"


def read(
    path: str | os.PathLike[str], shape: str, name: str, directory: str | os.PathLike[str] | None
) -> Imported:
    """Return what a Compose file means; see `orchestrator.importers.from_compose`."""
    shown = named(path)
    problems = Problems("import")
    root = read_document(path, problems, needs="services", what="a Compose file")
    folder = (Path.cwd() if str(path) == "-" else Path(path).absolute().parent).resolve()
    variables = read_variables(folder)
    root = variables.put_into(root)
    draft = Draft(shown, "Compose", name or text_of(root.get("name")) or folder.name)
    _note_top(root, draft, problems)
    paths = Paths(folder, (Path.cwd() if directory is None else Path(directory).absolute()).resolve())
    services: dict[str, Service] = {}
    for key, value in entries(root.get("services"), "services", problems):
        service = read_service(key, value, paths, draft, problems)
        if service is not None:
            services[key] = service
    if not services and not problems:
        problems.add("the file has no services", "empty", root.place_of("services"), expected="`services`")
    raise_problems(problems, shown)
    if variables.used:
        draft.remark("values of variables were written out", *variables.used)
    if variables.missing:
        draft.lose("variables that are not set are empty", *variables.missing)
    _add_nodes(services, shape, draft)
    _add_services(services, draft)
    return draft.finish()


def _note_top(root: Value, draft: Draft, problems: Problems) -> None:
    for key, value in entries(root, "the file", problems):
        if key == "networks" and len(value.mapping or {}) > 1:
            draft.lose("`networks`: each node can reach every other")
        elif key == "volumes":
            for volume, below in entries(value, "volumes", problems):
                for each, _ in entries(below, f"volume {volume}", problems):
                    draft.lose(f"`{each}` of volumes", volume)
        elif key not in ("services", "name", "version", "networks") and not key.startswith("x-"):
            draft.lose(f"`{key}` of the file")


def _add_nodes(services: Mapping[str, Service], shape: str, draft: Draft) -> None:
    """Add a node for each service that does not share another's, and link them."""
    homes = [key for key, service in services.items() if _shared(service, services) is None]
    if len(homes) < _LEAST.get(shape, 1) or shape not in _LEAST:
        raise UsageError(
            f"a {shape} needs at least {_LEAST.get(shape, 1)} nodes, but the file makes {len(homes)}",
            id="import.shape",
            found=shape,
            expected="one of `star`, `line`, `ring`, `full_mesh`",
            hint="`--topology star` links any number of services through a hub",
        )
    hub = draft.node("\0hub", "hub") if shape == "star" else 0
    numbers = [draft.node(key) for key in homes]
    for key, number in zip(homes, numbers, strict=True):
        if draft.called(number) != key:
            draft.lose(
                "names of services that others cannot use; take the name of the node",
                f"{key} is {draft.called(number)}",
            )
    pairs = {
        "star": [(hub, number) for number in numbers],
        "line": list(pairwise(numbers)),
        "ring": list(zip(numbers, [*numbers[1:], numbers[0]], strict=True)),
        "full_mesh": list(combinations(numbers, 2)),
    }
    for a, b in pairs[shape]:
        draft.link(a, b)


def _shared(service: Service, services: Mapping[str, Service]) -> str | None:
    """Return the service whose node a service runs in, if that is not its own."""
    seen = {service.key}
    while service.network.startswith(_SHARED):
        other = services.get(service.network.removeprefix(_SHARED))
        if other is None or other.key in seen:
            return None
        seen.add(other.key)
        service = other
    return service.key if len(seen) > 1 else None


def _add_services(services: Mapping[str, Service], draft: Draft) -> None:
    names = _names(services)
    lines = ["services:"]
    for key, service in services.items():
        number = draft.number(_shared(service, services) or key)
        if number is None:  # every service has a node, or the one that it shares has
            raise AssertionError("a service has no node")
        keys: dict[str, Any] = {"nodes": draft.called(number), **service.keys}
        after = _conditions(service, services, names, draft)
        if after:
            keys["depends_on"] = after
        lines.append(f"  {word(names[key])}:")
        lines += [f"    {each}: {flow(value)}" for each, value in keys.items()]
    draft.sections += lines


def _names(services: Mapping[str, Service]) -> dict[str, str]:
    """Return a valid name for each service; most keep theirs."""
    names: dict[str, str] = {}
    for key in services:
        name = node_name(key) or "service"
        count = 1
        while name in names.values():
            count += 1
            name = f"{name[:58]}-{count}"
        names[key] = name
    return names


def _conditions(
    service: Service, services: Mapping[str, Service], names: Mapping[str, str], draft: Draft
) -> list[str] | dict[str, dict[str, str]]:
    """Return `depends_on`: a list where no condition is stated."""
    stated = service.after
    if stated is None:
        return []
    after = {text_of(item): Value(None, item.place) for item in items(stated, "", Problems("import"))}
    if stated.mapping is not None:
        after = dict(stated.mapping)
    found: dict[str, str] = {}
    for other, value in after.items():
        if other not in services:
            draft.lose("dependencies on services that are left out", f"{service.key} on {other}")
            continue
        condition = text_of(value.get("condition"))
        if condition == "service_healthy" and "ready" not in services[other].keys:
            draft.lose(
                "conditions `service_healthy` on services without a check", f"{service.key} on {other}"
            )
            condition = ""
        found[names[other]] = condition
        for key in value.mapping or {}:
            if key != "condition":
                draft.lose(f"`{key}` of dependencies", f"{service.key} on {other}")
    if not any(found.values()):
        return list(found)
    return {name: {"condition": condition or "service_started"} for name, condition in found.items()}
