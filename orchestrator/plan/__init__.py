"""From what is meant to what each part gets: every address, port, token and mount decided, nothing written.

`build` is pure: the same topology, options and secrets give the same plan. What it leaves out on purpose is
looking at the machine; free ports and a free subnet are found by whoever calls and are handed in.
"""

from __future__ import annotations

from orchestrator.plan.build import build
from orchestrator.plan.model import (
    Bind,
    ControllerPlan,
    Database,
    DeploymentPlan,
    HealthCheck,
    HostEntry,
    Images,
    NetworkPlan,
    NodePlan,
    Secrets,
    ServicePlan,
    VolumePlan,
)
from orchestrator.plan.ttl import ttl_mode, ttl_note

__all__ = [
    "Bind",
    "ControllerPlan",
    "Database",
    "DeploymentPlan",
    "HealthCheck",
    "HostEntry",
    "Images",
    "NetworkPlan",
    "NodePlan",
    "Secrets",
    "ServicePlan",
    "VolumePlan",
    "build",
    "ttl_mode",
    "ttl_note",
]
