"""Find what a lab has left on the machine.

A running lab is inspected repeatedly, because some of its resources can be identified only while it runs: the
inodes of its namespaces, its ports, the user of its database.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator import procfs
from orchestrator.deploy.home import Home, LabDirectory
from orchestrator.deploy.namespaces import recorded_tables
from orchestrator.deploy.processes import labelled
from orchestrator.deploy.state import read
from orchestrator.store.privileges import spare_uid
from orchestrator.testing.leftovers import leftovers

__all__ = ["SeenState"]


@dataclass(slots=True)
class SeenState:
    """Resources of a lab that were seen while it ran.

    Attributes:
        directory: The lab's folder.
        namespaces: Inodes of its network namespaces.
        ports: Host ports assigned to it.
        pids: Processes with its labels in their environment.
        segments: System V shared memory segments that existed before.
        shared: PostgreSQL files in `/dev/shm` that existed before.
    """

    directory: LabDirectory
    namespaces: set[int] = field(default_factory=set)
    ports: set[int] = field(default_factory=set)
    pids: set[int] = field(default_factory=set)
    segments: set[int] = field(default_factory=lambda: set(_segments()))
    shared: set[str] = field(default_factory=lambda: set(_shared()))

    def update(self) -> None:
        """Add the resources that the lab has now."""
        tables = recorded_tables(self.directory)
        self.namespaces |= {each.inode for table in tables for each in table.nodes.values()}
        found = labelled(self.directory.home, self.directory.name)
        self.pids |= {each.identity.pid for each in found}
        note = read(self.directory)
        if note is not None:
            self.ports |= set(note.ports)

    def left(self) -> list[str]:
        """Describe every resource of the lab that still exists."""
        home = Home(self.directory.home)
        found = leftovers(home)
        found += [f"namespace {inode} held by process {pid}" for pid, inode in self._held()]
        found += [f"port {port} is listened on" for port in sorted(self.ports) if _listens(port)]
        found += [f"shared memory {each}" for each in self._memory()]
        found += [f"shared memory {path}" for path in sorted(_shared() - self.shared - _mapped())]
        found += [f"socket {path}" for path in _sockets() if path.startswith(f"{home.path}/")]
        found += [f"file {each}" for each in self._files()]
        return found

    def _held(self) -> list[tuple[int, int]]:
        """Processes that are in one of the namespaces, or have it open."""
        names = {f"net:[{inode}]": inode for inode in self.namespaces}
        found = set()
        for pid in procfs.pids() if names else ():
            if _labelled_otherwise(pid, self.directory.home):
                continue
            for link in (Path(f"/proc/{pid}/ns/net"), *_open_files(pid)):
                try:
                    target = str(link.readlink())
                except OSError:
                    continue
                if target in names:
                    found.add((pid, names[target]))
        return sorted(found)

    def _memory(self) -> list[int]:
        """New segments without attached processes, owned by the database's user or created by the lab."""
        database = spare_uid(str(self.directory.database)) if os.geteuid() == 0 else os.geteuid()
        return [
            each.id
            for each in _segments().values()
            if each.id not in self.segments
            and not each.holders
            and (each.owner == database or each.creator in self.pids)
        ]

    def _files(self) -> list[str]:
        """Files in NM_HOME other than lock files."""
        home = self.directory.home
        return [str(path) for path in home.rglob("*") if path.is_file() and path.parent.name != "locks"]


def _labelled_otherwise(pid: int, home: Path) -> bool:
    """Whether a process has the labels of another NM_HOME; its namespace may reuse a recorded inode."""
    return procfs.environment(pid).get("NM_HOME", str(home)) != str(home)


def _open_files(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return []


def _listens(port: int) -> bool:
    with socket.socket() as attempt:
        attempt.settimeout(1)
        return attempt.connect_ex(("127.0.0.1", port)) == 0


@dataclass(frozen=True, slots=True)
class _Segment:
    """System V shared memory."""

    id: int
    owner: int
    creator: int
    holders: int


def _segments() -> dict[int, _Segment]:
    lines = Path("/proc/sysvipc/shm").read_text(encoding="ascii").splitlines()
    names = lines[0].split()
    rows = [dict(zip(names, map(int, line.split()), strict=False)) for line in lines[1:]]
    return {row["shmid"]: _Segment(row["shmid"], row["uid"], row["cpid"], row["nattch"]) for row in rows}


def _shared() -> set[str]:
    """POSIX shared memory of all PostgreSQL servers on the machine."""
    return {str(path) for path in Path("/dev/shm").glob("PostgreSQL.*")}


def _mapped() -> set[str]:
    """Those that a process has mapped."""
    found = set()
    for pid in procfs.pids() if _shared() else ():
        try:
            text = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        found |= {line.split()[-1] for line in text.splitlines() if "/dev/shm/PostgreSQL." in line}
    return found


def _sockets() -> list[str]:
    lines = Path("/proc/net/unix").read_text(encoding="utf-8").splitlines()[1:]
    return sorted(parts[7] for line in lines if len(parts := line.split(maxsplit=7)) == 8)
