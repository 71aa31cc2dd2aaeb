"""Plan the services of a topology: what runs in which node, with which words, variables and checks."""

from __future__ import annotations

from pathlib import Path

from orchestrator.services import Check, Instance
from orchestrator.topology import Ready, Service, Topology, environment_of

__all__ = ["plan_instances"]


def plan_instances(topology: Topology, backend: str) -> tuple[Instance, ...]:
    """Return every service in every of its nodes that is no external one, in the order of their start.

    A program of this machine starts in the folder of the topology file unless the service says otherwise.
    """
    folder = str(Path(topology.file).absolute().parent) if backend == "native" and topology.file else ""
    return tuple(
        _instance(topology, service, node, folder)
        for service in topology.services
        for node in service.nodes
        if not topology.nodes[node].external
    )


def _instance(topology: Topology, service: Service, node: int, folder: str) -> Instance:
    return Instance(
        node=node,
        node_name=topology.nodes[node].name,
        address=topology.address(node),
        service=service.name,
        argv=(*(service.entrypoint or ()), *service.command),
        environment=environment_of(service),
        user=service.user,
        working_dir=service.working_dir or folder,
        restart=service.restart,
        ready=_check(service.ready),
        after=service.depends_on,
    )


def _check(ready: Ready | None) -> Check | None:
    if ready is None:
        return None
    return Check(
        kind=ready.kind,
        value=ready.value,
        timeout_s=ready.timeout_ms / 1000,
        interval_s=ready.interval_ms / 1000,
    )
