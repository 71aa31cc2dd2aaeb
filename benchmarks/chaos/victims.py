"""Find and kill the parts of a lab, on either backend, and read its database.

Every kill is SIGKILL from outside: the Docker engine does not restart a container that it was asked to kill.
"""

from __future__ import annotations

import json
import signal
import subprocess
from dataclasses import dataclass
from typing import Any, Protocol

from orchestrator import procfs
from orchestrator.deploy import processes
from orchestrator.deploy import state as notes
from orchestrator.deploy.home import Home, LabDirectory
from orchestrator.procfs import ProcessId
from orchestrator.store.embedded import EmbeddedPostgres
from orchestrator.testing.leftovers import leftovers

__all__ = ["DOCKER", "NATIVE", "DockerVictims", "NativeVictims", "Victims"]

NATIVE = ("controller", "postgres", "host", "supervisor")
DOCKER = ("controller", "postgres", "node", "agent")

_ROWS = (
    "SELECT row_to_json(t)::text FROM (SELECT r.run, r.node_id, r.seq, r.content FROM run_rows r "
    "JOIN runs USING (run) WHERE runs.state NOT IN ('running', 'stopping') ORDER BY 1, 2, 3) t"
)
"""Rows that finished runs reported."""


class Victims(Protocol):
    """The parts of a lab."""

    def find(self, role: str, number: int) -> tuple[str, Any]:
        """Return the part's name and its present process; the number chooses one of several."""

    def kill(self, victim: Any) -> bool:
        """Kill it; return whether it was running."""

    def is_restarted(self, role: str, victim: Any) -> bool:
        """Whether a new process runs in its place."""

    def rows(self) -> set[str]:
        """Return the rows of finished runs in the database."""

    def left(self) -> list[str]:
        """Return what a lab left behind after `nm down`."""


class NativeVictims:
    """The processes of a native lab; the agent of its nodes is the host process itself."""

    def __init__(self, directory: LabDirectory) -> None:
        self._directory = directory

    def find(self, role: str, number: int) -> tuple[str, Any]:
        """The process of that role."""
        return role, self._now(role)

    def kill(self, victim: Any) -> bool:
        """Kill it, and wait until it is gone."""
        return victim is not None and _kill(victim)

    def is_restarted(self, role: str, victim: Any) -> bool:
        """Read the lab's state file; the supervisor is found by its environment."""
        now = self._now(role)
        return now is not None and now != victim and now.alive()

    def rows(self) -> set[str]:
        """Query the lab's own Postgres server."""
        import psycopg

        with psycopg.connect(EmbeddedPostgres(self._directory.database).dsn) as connection:
            return {str(row[0]) for row in connection.execute(_ROWS)}

    def left(self) -> list[str]:
        """Processes and files."""
        return leftovers(Home(self._directory.home))

    def _now(self, role: str) -> ProcessId | None:
        if role != "supervisor":
            note = notes.read(self._directory)
            return note.parts.get(role) if note is not None else None
        found = processes.labelled(self._directory.home, self._directory.name)
        mine = [each.identity for each in found if "orchestrator.supervisor" in each.command]
        return min(mine, key=lambda each: each.started, default=None)


@dataclass(frozen=True, slots=True)
class _ContainerProcess:
    container: str
    started: str
    process: ProcessId | None


class DockerVictims:
    """The containers of a lab: `node` is a container's first process, `agent` the program in it."""

    def __init__(self, directory: LabDirectory) -> None:
        self._directory = directory

    def find(self, role: str, number: int) -> tuple[str, Any]:
        """Return the container of that role and the process in it to kill."""
        part = role if role in ("controller", "postgres") else f"node-{1 + number % 4}"
        container = f"nm-{self._directory.name}-{part}"
        state = self._state(container)
        pid = int(state["Pid"])
        if role == "agent":
            pid = next(iter(procfs.children(pid)), pid)
        return part, _ContainerProcess(container, state["StartedAt"], procfs.identify(pid))

    def kill(self, victim: Any) -> bool:
        """Kill the process."""
        return victim.process is not None and _kill(victim.process)

    def is_restarted(self, role: str, victim: Any) -> bool:
        """Whether the engine has restarted the container."""
        state = self._state(victim.container)
        return bool(state["Running"]) and state["StartedAt"] != victim.started

    def rows(self) -> set[str]:
        """Query the Postgres server in its container."""
        container = f"nm-{self._directory.name}-postgres"
        password = 'PGPASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")'
        script = f'{password} psql -h /postgres -U "$POSTGRES_USER" -d "$POSTGRES_DB" -Atc "{_ROWS}"'
        return set(_docker("exec", container, "sh", "-c", script).splitlines())

    def left(self) -> list[str]:
        """Containers, networks and volumes, and files."""
        return leftovers(Home(self._directory.home), engine=True)

    def _state(self, container: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(_docker("inspect", "-f", "{{json .State}}", container))
        return found


def _docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def _kill(process: ProcessId) -> bool:
    return procfs.send_signal(process, signal.SIGKILL) and not procfs.wait_gone([process], 10.0)
