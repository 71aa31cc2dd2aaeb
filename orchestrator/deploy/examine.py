"""Look at everything that a backend needs: before a start, and for `nm doctor`."""

from __future__ import annotations

import asyncio

from orchestrator.deploy import fitness
from orchestrator.deploy.fitness import Finding
from orchestrator.deploy.home import Home
from orchestrator.deploy.state import Backend
from orchestrator.errors import HostNotFit


async def require_fit(backend: Backend, nodes: int, processes: int = 1, home: Home | None = None) -> None:
    """Refuse a start that cannot work.

    Raises:
        HostNotFit: The first problem found.
    """
    findings = await asyncio.to_thread(examine, backend, nodes, processes, home)
    for finding in findings:
        if finding.level == "problem":
            raise HostNotFit(
                f"{finding.name}: {finding.detail}",
                id=f"host.{finding.name.replace(' ', '-')}",
                hint=finding.hint or None,
            )


def examine(backend: Backend, nodes: int = 1, processes: int = 1, home: Home | None = None) -> list[Finding]:
    """Look at everything that a backend needs for so many nodes; blocks for at most a few seconds."""
    disk = fitness.disk(backend, (home or Home.default()).path, nodes)
    if backend == "docker":
        from orchestrator.deploy.docker.fitness import examine_engine

        size = fitness.lab_size(nodes)
        return [fitness.tun_device(ours=False), *examine_engine(), size, fitness.memory(backend, nodes), disk]
    return [
        fitness.tun_device(),
        fitness.namespaces(),
        fitness.lab_size(nodes),
        fitness.namespace_limit(nodes),
        fitness.tool("nsenter", "util-linux"),
        fitness.postgres_binaries(),
        fitness.memory(backend, nodes, processes),
        fitness.open_files(-(-nodes // max(1, processes))),
        fitness.processes(),
        disk,
    ]
