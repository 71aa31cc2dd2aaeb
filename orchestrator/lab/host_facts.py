"""Tell where a run took place: versions, host and start of the lab."""

from __future__ import annotations

import os
import platform
import socket
from typing import Any

from orchestrator import __version__
from orchestrator.deploy.state import LabState

__all__ = ["host_facts"]


def host_facts(state: LabState) -> dict[str, Any]:
    """Return the facts as the results of a run have them."""
    return {
        "versions": {"nm": __version__, "python": platform.python_version(), "kernel": platform.release()},
        "host": {"name": socket.gethostname(), "machine": platform.machine(), "cpus": os.cpu_count()},
        "lab_run": state.run,
    }
