"""Run all checks that a backend needs: before a start, and for `nm doctor`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from orchestrator.deploy import host_checks
from orchestrator.deploy.home import Home
from orchestrator.deploy.host_checks import Finding
from orchestrator.deploy.state import Backend
from orchestrator.deploy.uplink_checks import examine_uplinks
from orchestrator.errors import HostNotFit
from orchestrator.topology import Uplink


async def require_fit(
    backend: Backend,
    nodes: int,
    processes: int = 1,
    home: Home | None = None,
    uplinks: Sequence[Uplink] = (),
) -> None:
    """Refuse a start that cannot work.

    Raises:
        HostNotFit: The first problem found.
    """
    findings = await asyncio.to_thread(examine, backend, nodes, processes, home)
    findings += await asyncio.to_thread(examine_uplinks, backend, uplinks)
    for finding in findings:
        if finding.level == "problem":
            raise HostNotFit(
                f"{finding.name}: {finding.detail}",
                id=f"host.{finding.name.replace(' ', '-')}",
                hint=finding.hint or None,
            )


def examine(backend: Backend, nodes: int = 1, processes: int = 1, home: Home | None = None) -> list[Finding]:
    """Look at everything that a backend needs for so many nodes; blocks for at most a few seconds."""
    disk = host_checks.disk(backend, (home or Home.default()).path, nodes)
    if backend == "docker":
        from orchestrator.deploy.docker.engine_checks import examine_engine

        return [
            host_checks.tun_device(ours=False),
            *examine_engine(),
            host_checks.lab_size(nodes),
            host_checks.memory(backend, nodes),
            disk,
        ]
    return [
        host_checks.tun_device(),
        host_checks.namespaces(),
        host_checks.lab_size(nodes),
        host_checks.namespace_limit(nodes),
        host_checks.tool("nsenter", "util-linux"),
        host_checks.redirection(),
        host_checks.postgres_binaries(),
        host_checks.memory(backend, nodes, processes),
        host_checks.open_files(-(-nodes // max(1, processes))),
        host_checks.processes(),
        disk,
    ]
