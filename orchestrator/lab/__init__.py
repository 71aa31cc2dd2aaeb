"""The SDK: labs as objects.

Lab           blocking face; `AsyncLab` is the awaitable one
up, ready     bring a lab up, or say who spoils it
down          take it away and prove it; collect what others forgot
status        what state it is in
commands      programs inside nodes
run           scenarios, from parameters to verdict
operator      the connection to a lab's controller
"""

from __future__ import annotations

from orchestrator.lab.blocking import Lab, Node
from orchestrator.lab.commands import Completed
from orchestrator.lab.down import DownResult
from orchestrator.lab.handle import AsyncLab, AsyncNode
from orchestrator.lab.status import LabStatus, LinkInfo, NodeInfo
from orchestrator.lab.up import UpOptions, UpResult

__all__ = [
    "AsyncLab",
    "AsyncNode",
    "Completed",
    "DownResult",
    "Lab",
    "LabStatus",
    "LinkInfo",
    "Node",
    "NodeInfo",
    "UpOptions",
    "UpResult",
]
