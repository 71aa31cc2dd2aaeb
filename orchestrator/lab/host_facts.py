"""Tell where a run took place: versions, host and start of the lab."""

from __future__ import annotations

import os
import platform
import re
import socket
from pathlib import Path
from typing import Any

from orchestrator import __version__

__all__ = ["SYSCTLS", "host_facts", "machine_facts"]

SYSCTLS = (
    "net.core.default_qdisc",
    "net.core.netdev_max_backlog",
    "net.core.rmem_max",
    "net.core.wmem_max",
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "kernel.sched_autogroup_enabled",
    "vm.overcommit_memory",
)
"""Settings of the kernel that change what is measured; those that this kernel has are in `run.json`."""


def host_facts(lab_run: str) -> dict[str, Any]:
    """Return the facts as the results of a run have them, with the start of its lab."""
    return {**machine_facts(), "lab_run": lab_run}


def machine_facts() -> dict[str, Any]:
    """Return versions and host; null where the machine does not say."""
    return {
        "versions": {"nm": __version__, "python": platform.python_version(), "kernel": platform.release()},
        "host": {
            "name": socket.gethostname(),
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
            "cpu": _cpu_model(),
            "governor": _content("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "sysctls": {name: value for name in SYSCTLS if (value := _sysctl(name)) is not None},
        },
    }


def _cpu_model() -> str | None:
    found = re.search(r"^(?:model name|Model|cpu)\s*:\s*(.+)$", _content("/proc/cpuinfo") or "", re.MULTILINE)
    return found[1].strip() if found else None


def _sysctl(name: str) -> str | None:
    value = _content(f"/proc/sys/{name.replace('.', '/')}")
    return " ".join(value.split()) if value is not None else None


def _content(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
