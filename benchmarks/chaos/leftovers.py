"""Find what a lab has left on the machine.

A lab that is up is looked at now and then, because some of what it holds can be told apart only while it is
there: the numbers of its namespaces, its port, the user that its database runs as.
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

__all__ = ["Memory"]


@dataclass(slots=True)
class Memory:
    """What was seen of a lab.

    Attributes:
        directory: The lab's folder.
        namespaces: Inodes of its network namespaces.
        ports: Ports of this machine that it was given.
        pids: Processes that carried its labels.
        segments: Shared memory that was there before.
        shared: Files of databases in `/dev/shm` that were there before.
    """

    directory: LabDirectory
    namespaces: set[int] = field(default_factory=set)
    ports: set[int] = field(default_factory=set)
    pids: set[int] = field(default_factory=set)
    segments: set[int] = field(default_factory=lambda: set(_segments()))
    shared: set[str] = field(default_factory=lambda: set(_shared()))

    def look(self) -> None:
        """See what the lab holds now."""
        tables = recorded_tables(self.directory)
        self.namespaces |= {each.inode for table in tables for each in table.nodes.values()}
        found = labelled(self.directory.home, self.directory.name)
        self.pids |= {each.identity.pid for each in found}
        note = read(self.directory)
        if note is not None:
            self.ports |= set(note.ports)

    def left(self) -> list[str]:
        """Everything of the lab that is still there, in words."""
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
        """Segments that nobody holds any more: of the database's user, or made by a process of the lab."""
        database = spare_uid(str(self.directory.database)) if os.geteuid() == 0 else os.geteuid()
        return [
            each.id
            for each in _segments().values()
            if each.id not in self.segments
            and not each.holders
            and (each.owner == database or each.creator in self.pids)
        ]

    def _files(self) -> list[str]:
        """Whatever is in the home besides lock files."""
        home = self.directory.home
        return [str(path) for path in home.rglob("*") if path.is_file() and path.parent.name != "locks"]


def _labelled_otherwise(pid: int, home: Path) -> bool:
    """Whether a process belongs to labs of another home, which may have been given a number of ours again."""
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
    """What databases, ours or others', have in the folder of POSIX shared memory."""
    return {str(path) for path in Path("/dev/shm").glob("PostgreSQL.*")}


def _mapped() -> set[str]:
    """Those of them that a process uses."""
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
