"""Check that this machine can give nodes a way out."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from orchestrator.deploy.host_checks import SYSTEM_PATH, Finding, tool
from orchestrator.deploy.state import Backend
from orchestrator.topology import Uplink

__all__ = ["examine_uplinks", "uplink_tools"]

NAMESPACES = Path("/run/netns")
TUN = Path("/dev/net/tun")
"""The only TUN device that `pasta` opens, whatever `NM_TUN_DEVICE` says."""


def uplink_tools() -> list[Finding]:
    """Whether the programs are installed that only nodes with an uplink need; no problem without one."""
    return [
        each
        if each.level == "ok"
        else replace(each, level="warning", detail=f"{each.detail}, so that no node can have an `uplink`")
        for each in _tools()
    ]


def examine_uplinks(backend: Backend, uplinks: Sequence[Uplink]) -> list[Finding]:
    """Look at everything that these uplinks need."""
    if not uplinks:
        return []
    if backend == "docker":
        return [_of_the_engine(uplinks)]
    found = _tools()
    if not os.access(TUN, os.R_OK | os.W_OK):
        detail = f"`pasta` opens {TUN}, which this user may not"
        found.append(Finding("uplink", "problem", detail, f"`sudo chmod 0666 {TUN}`"))
    for uplink in uplinks:
        if uplink.namespace is not None:
            found.append(_namespace(uplink.namespace))
        if uplink.interface is not None:
            found.append(_interface(uplink.interface))
    if all(uplink.namespace is not None or uplink.interface is not None for uplink in uplinks):
        return found
    return [*found, _default_route()]


def _of_the_engine(uplinks: Sequence[Uplink]) -> Finding:
    """A container's way out is its engine's network, whichever interface of the machine that takes."""
    if all(uplink == Uplink() for uplink in uplinks):
        return Finding("uplink", "ok", "containers have the engine's network")
    detail = "with docker an uplink cannot name an interface or a namespace"
    return Finding("uplink", "problem", detail, "`uplink: true`, or `--backend native`")


def _tools() -> list[Finding]:
    """Look also where only root's PATH leads: ordinary users of Debian have no `/usr/sbin` in theirs."""
    return [tool("pasta", "passt", path=SYSTEM_PATH), tool("nft", "nftables", path=SYSTEM_PATH)]


def _namespace(name: str) -> Finding:
    if os.geteuid() != 0:
        detail = f"the uplink's namespace `{name}` can only be entered by root"
        return Finding("uplink", "problem", detail, "run as root, or write `uplink: true`")
    if not (NAMESPACES / name).exists():
        detail = f"there is no network namespace `{name}`"
        return Finding("uplink", "problem", detail, "`ip netns list` shows them; `ip netns add` makes one")
    return Finding("uplink", "ok", f"the network namespace `{name}` is there")


def _interface(name: str) -> Finding:
    if name not in [each for _, each in socket.if_nameindex()]:
        return Finding("uplink", "problem", f"there is no interface `{name}`", "`ip link` lists them")
    return Finding("uplink", "ok", f"the interface `{name}` is there")


def _default_route(table: Path = Path("/proc/net/route")) -> Finding:
    try:
        lines = table.read_text().splitlines()[1:]
    except OSError:
        lines = []
    if any(line.split()[1] == line.split()[7] == "00000000" for line in lines):
        return Finding("uplink", "ok", "the machine has a default route")
    hint = "write `uplink: {interface: NAME}` with the interface that leads outside"
    return Finding("uplink", "problem", "the machine has no default route", hint)
