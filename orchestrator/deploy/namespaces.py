"""Run commands in the network namespaces of a native lab's nodes.

The host process holds one network namespace per node as an open file and publishes the descriptors in
`host.json`. A process with access to its `/proc` entry enters a node through `/proc/<host>/fd/<n>`; there is
no entry in `/run/netns` to clean up. The host's mount namespace is entered too, for its `/etc/hosts` with the
names of the nodes, and its user namespace where the lab runs without root. `nsenter` (util-linux, on every
Debian) does this in three milliseconds, without Python.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from orchestrator.deploy import processes
from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.netns_cookies import netns_cookies
from orchestrator.errors import NmError
from orchestrator.procfs import ProcessId


@dataclass(frozen=True)
class Namespace:
    """One node's network namespace: the number of the open file in the host process, its inode, its cookie.

    `names` is the number of the file that is the node's UTS namespace, with its host name.

    The inode is cheap to read, but may be reused for another namespace when ours is gone. The cookie is never
    reused; 0 where the kernel has none.
    """

    fd: int
    inode: int
    cookie: int = 0
    names: int | None = None


@dataclass(frozen=True)
class HostTable:
    """What a host process publishes.

    Attributes:
        process: The host process itself.
        nodes: Its namespaces by node id.
        user_namespace: Whether it runs in a user namespace of its own.
        mount_namespace: Whether it has an `/etc/hosts` of its own.
        offload: Whether super-packets pass its TUN devices, in words.
    """

    process: ProcessId
    nodes: dict[int, Namespace]
    user_namespace: bool = False
    mount_namespace: bool = True
    offload: str = ""

    @classmethod
    def from_json(cls, text: str) -> HostTable:
        """Read what a host process wrote (`orchestrator.node.table`); ValueError if it is something else."""
        try:
            raw: dict[str, Any] = json.loads(text)
            return cls(
                process=ProcessId(raw["pid"], raw["started"]),
                nodes={int(n): _namespace(ns) for n, ns in raw["nodes"].items()},
                user_namespace=raw["user_namespace"],
                mount_namespace=raw["mount_namespace"],
                offload=raw["offload"],
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a host table: {error!r}") from error

    def command(self, node: int, argv: Sequence[str]) -> list[str]:
        """The argument list that runs `argv` inside `node`.

        Raises:
            KeyError: This host process does not carry the node.
        """
        at = f"/proc/{self.process.pid}"
        namespace = self.nodes[node]
        enter = ["nsenter", f"--net={at}/fd/{namespace.fd}"]
        if namespace.names is not None:
            enter.append(f"--uts={at}/fd/{namespace.names}")
        if self.mount_namespace:
            enter.append(f"--mount={at}/ns/mnt")
        if self.user_namespace:
            enter += [f"--user={at}/ns/user", "--preserve-credentials"]
        return [*enter, "--", *argv]


def require_table(directory: LabDirectory, part: str = "host") -> HostTable:
    """The table of a host process of the lab.

    Raises:
        NmError: The host process is gone (`lab.host-gone`), or it has not published its table, or the
            table was deleted (`lab.no-table`).
    """
    table = _read(directory.host_table(part))
    if table is None and list(directory.path.glob(f"{part}.gone-*")) == []:
        raise NmError(
            f"nodes of lab {directory.name} cannot be entered: {directory.host_table(part)} is not there",
            id="lab.no-table",
            hint="a lab that is being started will have it; otherwise `nm down`, then `nm up` recreates it",
            exit_code=5,
        )
    if table is None or not table.process.alive():
        raise NmError(
            f"nodes of lab {directory.name} are gone: their process, {part}, does not run",
            id="lab.host-gone",
            hint="`nm up` with the lab's topology file starts it again, `nm down` removes what is left",
            exit_code=5,
        )
    return table


def offload_of(directory: LabDirectory, part: str) -> str:
    """Whether super-packets pass the TUN devices of a host process, in words; empty while not known."""
    table = _read(directory.host_table(part))
    return table.offload if table is not None else ""


def processes_inside(directory: LabDirectory) -> list[ProcessId]:
    """Processes inside the lab's namespaces, whether the host processes that made them still run or not."""
    held: set[int] = set()
    orphaned: dict[int, int] = {}
    for table in recorded_tables(directory):
        for namespace in table.nodes.values():
            if table.process.alive():
                held.add(namespace.inode)
            else:
                orphaned[namespace.inode] = namespace.cookie
    found = processes.in_namespaces({*held, *orphaned})
    # While its host process lives, an inode is ours; afterwards only the cookie identifies it.
    suspects = {each.pid: inode for each, inode in found.items() if inode not in held}
    read = netns_cookies(suspects)
    ours = {pid for pid, inode in suspects.items() if 0 != read.get(pid, 0) == orphaned[inode]}
    return sorted(each for each in found if each.pid in ours or each.pid not in suspects)


def recorded_tables(directory: LabDirectory) -> list[HostTable]:
    """The lab's tables as last published, whether the host processes still run or not."""
    return [table for path in directory.host_tables() if (table := _read(path))]


def _namespace(raw: dict[str, int]) -> Namespace:
    return Namespace(raw["fd"], raw["inode"], raw.get("cookie", 0), raw.get("names"))


def _read(path: Path) -> HostTable | None:
    try:
        seen = path.stat()
        return _parsed(path, seen.st_ino, seen.st_mtime_ns)
    except (OSError, ValueError):
        return None


@lru_cache(maxsize=64)
def _parsed(path: Path, _inode: int, _changed: int) -> HostTable:
    """A table that was read before; `nm exec all` in a lab of 1,000 asks for the same one 1,000 times."""
    return HostTable.from_json(path.read_text())
