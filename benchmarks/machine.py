"""Describe the machine on which a benchmark runs.

The host name is left out: it does not affect speed and may identify the owner.
"""

from __future__ import annotations

import gzip
import os
import platform
import re
import shutil
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks import sysctls, wakeup
from benchmarks.commands import run
from benchmarks.errors import CommandFailed
from benchmarks.proc import memory

__all__ = ["describe", "kernel_flags", "parse_kernel_config"]

_FLAGS = (
    "BRIDGE",
    "HZ",
    "IO_URING",
    "MODULES",
    "NET_SCH_FQ",
    "NET_SCH_HTB",
    "NET_SCH_NETEM",
    "OPENVSWITCH",
    "PREEMPT",
    "PREEMPT_DYNAMIC",
    "TUN",
    "VETH",
    "VHOST_NET",
)
_VERSIONS = {
    "iperf3": ("iperf3", "--version"),
    "ip": ("ip", "-V"),
    "ping": ("ping", "-V"),
    "rustc": ("rustc", "--version"),
    "docker": ("docker", "version", "--format", "{{.Server.Version}}"),
    "mininet": ("mn", "--version"),
}


def describe() -> dict[str, Any]:
    """Return the description of this machine that every record contains."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "cpu": _cpu_model(),
        "memory_bytes": memory()["MemTotal"],
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "kernel_config": kernel_flags(),
        "congestion_control": _read("/proc/sys/net/ipv4/tcp_congestion_control"),
        "sysctls": {name: _read(f"/proc/sys/{name}") for name in sysctls.PUBLISHED},
        "transparent_hugepages": _read("/sys/kernel/mm/transparent_hugepage/enabled"),
        "clocksource": _read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "load_average": os.getloadavg()[0],
        "wake_up_us": wakeup.round_trip_us(),
        "versions": _versions(),
        "commit": _commit(),
    }


def kernel_flags() -> dict[str, str]:
    """Return the build options that decide what can be measured; empty when they cannot be read."""
    try:
        text = gzip.decompress(Path("/proc/config.gz").read_bytes()).decode("ascii", "replace")
    except OSError:
        try:
            text = Path(f"/boot/config-{platform.release()}").read_text(encoding="ascii", errors="replace")
        except OSError:
            return {}
    return parse_kernel_config(text)


def parse_kernel_config(text: str) -> dict[str, str]:
    """Return the options in `_FLAGS` from a kernel's `.config`; one that is not set is `n`."""
    given = dict(re.findall(r"^CONFIG_(\w+)=(.*)$", text, re.MULTILINE))
    return {name: given.get(name, "n") for name in _FLAGS}


def _cpu_model() -> str:
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    match = re.search(r"^model name\s*:\s*(.*)$", text, re.MULTILINE)
    return match.group(1) if match else platform.processor() or "unknown"


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    try:
        found["nm"] = metadata.version("nm-testbed")
    except metadata.PackageNotFoundError:
        found["nm"] = "from the source tree"
    for name, argv in _VERSIONS.items():
        if shutil.which(argv[0]) is None:
            continue
        try:
            finished = run(argv, timeout=10)
        except CommandFailed:
            continue
        lines = (finished.stdout or finished.stderr).strip().splitlines()
        found[name] = lines[0] if lines else "unknown"
    return found


def _commit() -> str:
    root = Path(__file__).resolve().parent.parent
    try:
        commit = run(["git", "-C", str(root), "rev-parse", "--short", "HEAD"], timeout=10).stdout.strip()
        dirty = run(["git", "-C", str(root), "status", "--porcelain", "-uno"], timeout=30).stdout.strip()
    except CommandFailed:
        return "unknown"
    return f"{commit}, with local changes" if dirty else commit


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
