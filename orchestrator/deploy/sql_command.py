"""Build the argument list that runs `psql` on a lab's database, for each backend."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.state import LabState

__all__ = ["USER", "conninfo", "psql_command"]

USER = "nm_user"
"""The role of people: it changes what is meant to be changed, and reads the rest (migration 0007)."""


# Inside its container the server asks the controller's role for its password, and knows none of `nm_user`.
_INSIDE = (
    'PGPASSWORD="$(cat /etc/nm/postgres-password)" PGOPTIONS="-c role=nm_user";'
    ' export PGPASSWORD PGOPTIONS; exec psql -h /postgres -U nm -d nm "$@"'
)


def psql_command(
    directory: LabDirectory, state: LabState, argv: Sequence[str], *, terminal: bool
) -> list[str]:
    """Return the argument list that becomes `psql` with these arguments, with our terminal or pipes.

    Raises:
        HostNotFit: The embedded server's programs are not installed.
    """
    if state.backend == "docker":
        options = ["--interactive", *(["--tty"] if terminal else [])]
        return ["docker", "exec", *options, f"nm-{state.lab}-postgres", "sh", "-c", _INSIDE, "psql", *argv]
    from orchestrator.store.embedded import find_binaries

    return [str(find_binaries() / "psql"), *argv, conninfo(directory)]


def conninfo(directory: LabDirectory) -> str:
    """Return how to connect to the database of a native lab, as libpq reads it."""
    from orchestrator.deploy.native.database import parameters
    from orchestrator.settings.controller import DatabaseSettings

    found = parameters(directory)
    where = DatabaseSettings(
        user=USER, host=str(found["host"]), port=int(found["port"]), database=str(found["database"])
    )
    return where.conninfo()
