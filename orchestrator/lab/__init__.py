"""The Python SDK: labs as objects.

    Lab           the blocking API; `AsyncLab` is the asynchronous one
    up, ready     bring a lab up, or report the part that failed
    down          take a lab down and verify it; remove leftovers of crashed labs
    status        the state of a lab
    commands      programs inside nodes
    service       services in nodes; copying files into them and out of them
    run           scenarios, from parameters to verdict
    lab_tests     tests of a lab: reachability, ports, commands, routes, rates, losses and delays
    measuring     fidelity and time series of a run; series samples nodes and machine each second
    capture       packets of nodes and links, as pcapng
    operator      the connection to a lab's controller

Each module is imported on first use, so that a command in a node does not load the code that starts labs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.lab.blocking import Lab, Node, Service
    from orchestrator.lab.blocking_link import Link
    from orchestrator.lab.commands import Completed
    from orchestrator.lab.down import DownResult
    from orchestrator.lab.groups import Group, GroupTree
    from orchestrator.lab.handle import AsyncLab
    from orchestrator.lab.link import AsyncLink
    from orchestrator.lab.node import AsyncNode
    from orchestrator.lab.node_faults import NodesChanged
    from orchestrator.lab.service import AsyncService
    from orchestrator.lab.status import LabStatus, LinkInfo, NodeInfo
    from orchestrator.lab.up import UpOptions, UpResult

__all__ = [
    "AsyncLab",
    "AsyncLink",
    "AsyncNode",
    "AsyncService",
    "Completed",
    "DownResult",
    "Group",
    "GroupTree",
    "Lab",
    "LabStatus",
    "Link",
    "LinkInfo",
    "Node",
    "NodeInfo",
    "NodesChanged",
    "Service",
    "UpOptions",
    "UpResult",
]

_HOMES = {
    "blocking": ("Lab", "Node", "Service"),
    "blocking_link": ("Link",),
    "commands": ("Completed",),
    "down": ("DownResult",),
    "groups": ("Group", "GroupTree"),
    "handle": ("AsyncLab",),
    "link": ("AsyncLink",),
    "node": ("AsyncNode",),
    "node_faults": ("NodesChanged",),
    "service": ("AsyncService",),
    "status": ("LabStatus", "LinkInfo", "NodeInfo"),
    "up": ("UpOptions", "UpResult"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Load a public name from its module the first time it is used."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)
