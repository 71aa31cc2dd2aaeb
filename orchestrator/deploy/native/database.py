"""Start a native lab's embedded Postgres with the lab's labels and log file.

`orchestrator.store.embedded` runs the server, with its user and settings.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.deploy.home import LabDirectory
from orchestrator.errors import StartFailed
from orchestrator.procfs import ProcessId, identify
from orchestrator.store.embedded import EmbeddedPostgres


def parameters(directory: LabDirectory) -> dict[str, str | int]:
    """How the controller reaches the lab's server, whether it runs yet or not."""
    return EmbeddedPostgres(directory.database).parameters


def start(directory: LabDirectory, marks: Mapping[str, str]) -> ProcessId:
    """Start the lab's server, making its cluster first if there is none.

    Raises:
        StoreUnavailable: The server could not be made or started; the hint is what it said last.
        HostNotFit: Its binaries are not installed.
    """
    server = EmbeddedPostgres(directory.database, environment=marks, log=directory.logs / "postgres.log")
    server.start()
    identity = identify(server.pid)
    if identity is None:
        raise StartFailed("the embedded Postgres ended right after its start", id="start.postgres")
    return identity


def clean(directory: LabDirectory) -> None:
    """Take away what a killed server leaves outside the lab's folder."""
    EmbeddedPostgres(directory.database).clean()
