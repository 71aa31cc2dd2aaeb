"""Plan the containers of the user's own services: any image, in the network of its node's container.

What the user does not state is left to the image and the engine: their capabilities, users and file systems
are not ours. Volumes with a name belong to a node; the services of that node share them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.plan.model import DeploymentPlan, UserContainer, VolumePlan
from orchestrator.services import Instance
from orchestrator.topology import Build, Service, Volume

__all__ = ["plan_user_containers", "plan_user_volumes"]

Labels = Mapping[str, str]

NODE_IMAGE = "NODE_IMAGE"
"""The build argument with the name of the nodes' image."""


def plan_user_containers(plan: DeploymentPlan, labels: Labels) -> tuple[UserContainer, ...]:
    """Return a container for each service in each of its nodes, in the order of their start."""
    services = {service.name: service for service in plan.topology.services}
    return tuple(_container(plan, services[each.service], each, labels) for each in plan.instances)


def plan_user_volumes(plan: DeploymentPlan, labels: Labels) -> tuple[VolumePlan, ...]:
    """Return the volumes that services name, one for each node."""
    services = {service.name: service for service in plan.topology.services}
    found: dict[str, VolumePlan] = {}
    for each in plan.instances:
        for volume in services[each.service].volumes:
            if volume.source and not volume.is_bind:
                key = _key(each.node, volume)
                name = f"nm-{plan.lab}-{each.node_name}.{volume.source}"
                found[key] = VolumePlan(key=key, name=name, labels=dict(labels))
    return tuple(found.values())


def _key(node: int, volume: Volume) -> str:
    return f"node-{node}.{volume.source}"


def _container(plan: DeploymentPlan, service: Service, it: Instance, labels: Labels) -> UserContainer:
    own = {"nm.node": str(it.node), "nm.service": service.name}
    settings: dict[str, Any] = {
        "container_name": f"nm-{plan.lab}-{it.node_name}.{service.name}",
        **_program(plan, service),
        "environment": dict(it.environment),
        "labels": {**labels, **own},
        "network_mode": f"service:node-{it.node}",
        "depends_on": _after(plan, service, it),
        "volumes": [
            # The engine's own file has the names of its network, and not those of the lab.
            {"type": "bind", "source": "./hosts", "target": "/etc/hosts", "read_only": True},
            *(_mount(it.node, volume) for volume in service.volumes),
        ],
        "logging": {"driver": "json-file", "options": {"max-size": "16m", "max-file": "2"}},
        "restart": service.restart,
    }
    for key in ("user", "working_dir", "mem_limit", "cpus"):
        if getattr(service, key):
            settings[key] = getattr(service, key)
    for key in ("tmpfs", "cap_add", "devices"):
        if getattr(service, key):
            settings[key] = list(getattr(service, key))
    if service.devices:
        settings["devices"] = [each if ":" in each else f"{each}:{each}" for each in service.devices]
    if service.gpus:
        count = service.gpus if service.gpus == "all" else int(service.gpus)
        wanted = {"driver": "nvidia", "count": count, "capabilities": ["gpu"]}
        settings["deploy"] = {"resources": {"reservations": {"devices": [wanted]}}}
    return UserContainer(name=f"node-{it.node}.{service.name}", settings=settings)


def _program(plan: DeploymentPlan, service: Service) -> dict[str, Any]:
    if not service.image and service.build is None:
        # The image of the nodes has an entrypoint of its own, which is the agent.
        words = [*(service.entrypoint or ()), *service.command]
        return {"image": plan.images.node, "entrypoint": words[:1], "command": words[1:]}
    made: dict[str, Any] = {"image": service.image or f"nm-{plan.lab}-{service.name}".lower()}
    if service.build is not None:
        made["build"] = _build(service.build, plan.images.node)
    if service.entrypoint is not None:
        # An empty word takes the image's entrypoint away.
        made["entrypoint"] = list(service.entrypoint) or [""]
    if service.command:
        made["command"] = list(service.command)
    return made


def _build(build: Build, node_image: str) -> dict[str, Any]:
    made: dict[str, Any] = {"context": build.context}
    if build.dockerfile:
        made["dockerfile"] = build.dockerfile
    if build.target:
        made["target"] = build.target
    # A base that is there whatever the engine can pull; a Dockerfile that does not declare it ignores it.
    made["args"] = {NODE_IMAGE: node_image, **build.args}
    return made


def _after(plan: DeploymentPlan, service: Service, it: Instance) -> dict[str, Any]:
    """What Compose starts before; only we know whether a service is ready."""
    names = [f"node-{it.node}"]
    names += [
        f"node-{each.node}.{each.service}" for each in plan.instances if each.service in service.depends_on
    ]
    return {name: {"condition": "service_started"} for name in names}


def _mount(node: int, volume: Volume) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "bind" if volume.is_bind else "volume"}
    if volume.source:
        made["source"] = volume.source if volume.is_bind else _key(node, volume)
    return {**made, "target": volume.target, "read_only": volume.read_only}
