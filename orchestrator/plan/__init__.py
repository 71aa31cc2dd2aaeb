"""Turn a topology into a deployment plan: every address, port, token and mount; nothing is written.

`build` is pure: the same topology, options, secrets and certificates give the same plan. It does not look at
the machine; the caller finds free ports and a free subnet and passes them in.
"""

from __future__ import annotations

from orchestrator.plan.build import build
from orchestrator.plan.certificates import AUTHORITY_FILE, CERTIFICATE_FILE, KEY_FILE, Certificates
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
    "AUTHORITY_FILE",
    "CERTIFICATE_FILE",
    "KEY_FILE",
    "Bind",
    "Certificates",
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
