"""Where the parts of a native lab log."""

from __future__ import annotations

from pathlib import Path

from orchestrator.deploy.home import LabDirectory

__all__ = ["log_file", "service_log"]


def log_file(directory: LabDirectory, part: str) -> Path:
    """The log of `postgres`, `controller`, `host`, `services`, `node-<n>`, or a service such as `3/redis`."""
    return service_log(directory, part) if "/" in part else directory.logs / f"{part}.log"


def service_log(directory: LabDirectory, key: str) -> Path:
    """The output of a service in a node."""
    node, _, service = key.partition("/")
    return directory.logs / f"service-{node}.{service}.log"
