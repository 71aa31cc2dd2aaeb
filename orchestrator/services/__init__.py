"""Programs of the user's own that run in the nodes of a lab.

instance    what runs where: the file of a lab that its services are started from
state       what became of them: the file of a native lab that says so, and its meaning
restarts    whether and when a service that ended is started again
probe       a program that waits inside a node until a service accepts connections
"""

from __future__ import annotations

from orchestrator.services.instance import Check, Instance, read, write_text
from orchestrator.services.restarts import Restarts
from orchestrator.services.state import DEATHS, ServiceFailed, ServiceState

__all__ = [
    "DEATHS",
    "Check",
    "Instance",
    "Restarts",
    "ServiceFailed",
    "ServiceState",
    "read",
    "write_text",
]
