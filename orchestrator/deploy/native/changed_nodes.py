"""Add nodes to the host processes of a native lab, and remove them, while the others go on."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.deploy import processes
from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.native.node_faults import have_applied
from orchestrator.deploy.state import LabState, write

if TYPE_CHECKING:
    from orchestrator.deploy.native.host import NativeHost

__all__ = ["changed_nodes", "placed"]

END_S = 8.0
"""How long a host process without nodes may take to end when asked."""


def placed(state: LabState, local: Collection[int]) -> dict[str, tuple[int, ...]]:
    """Return the host process of each node; one that has a node keeps it, new ones go where fewest are.

    Args:
        state: The lab, before the change.
        local: The nodes that we run, after it.
    """
    hosts: Mapping[str, Collection[int]] = state.hosts or {"host": ()}
    kept = {role: [node for node in nodes if node in local] for role, nodes in hosts.items()}
    there = {node for nodes in kept.values() for node in nodes}
    for node in sorted(set(local) - there):
        min(kept.values(), key=len).append(node)
    return {role: tuple(sorted(nodes)) for role, nodes in kept.items()}


async def changed_nodes(host: NativeHost, directory: LabDirectory, state: LabState) -> LabState:
    """Make the nodes of host processes those of the state.

    Raises:
        NodeFaultFailed: A host process could not make or open its nodes.
        StartFailed: One could not be started, or ended.
    """
    empty = {
        role: state.parts[role] for role, nodes in state.carried.items() if not nodes and role in state.parts
    }
    if empty:
        # Out of the state first: the supervisor starts what is in it.
        parts = {role: process for role, process in state.parts.items() if role not in empty}
        state = replace(state, parts=parts)
        write(directory, state)
        left = await asyncio.to_thread(processes.end, list(empty.values()), END_S)
        if left:
            raise processes.cannot_end_error(left[0], f"a part of lab {directory.name} without nodes")
        for role in empty:
            directory.set_aside(role)
    running = {role for role in state.hosts if role in state.parts and state.parts[role].alive()}
    await asyncio.to_thread(have_applied, directory, running)
    return await host.start_parts(directory, state, state.hosts)
