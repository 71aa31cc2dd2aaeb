"""Make the empty cluster that an embedded Postgres begins with, by `initdb`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from orchestrator.errors import StoreUnavailable
from orchestrator.store.privileges import become, map_named_user, named_uid

__all__ = ["initialise", "is_complete"]

_OPTIONS = (
    *("-U", "nm", "--auth-local=trust", "--auth-host=reject", "--no-sync", "--no-locale"),
    *("--encoding=UTF8", "--no-instructions", "--wal-segsize=1"),
    *("-c", "max_connections=40", "-c", "shared_buffers=32MB"),
    *("-c", "dynamic_shared_memory_type=mmap"),  # a killed initdb leaves nothing in /dev/shm, either
)

_LIMIT_S = 60.0


def initialise(
    binaries: Path,
    data: Path,
    owner: int | None,
    *,
    keep_read_capability: bool,
    variables: Mapping[str, str],
) -> None:
    """Make a cluster with `initdb` in an empty folder.

    Args:
        binaries: The folder of the server's programs.
        data: The cluster's folder.
        owner: Who is to own it; ourselves if None.
        keep_read_capability: Whether the programs are below a folder that is closed to other users.
        variables: The environment.

    Raises:
        StoreUnavailable: It failed, or took too long; the hint is what it said.
        OSError, subprocess.SubprocessError: It cannot be run.
    """
    prepare = map_named_user() if owner is None else None
    if owner is not None:
        # initdb wants to know its user's name, which the server's own user does not have.
        named = named_uid()
        os.chown(data, named, named)
        prepare = become(named, keep_read_capability=keep_read_capability)
    try:
        done = subprocess.run(
            [str(binaries / "initdb"), "-D", str(data), *_OPTIONS],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=dict(variables),
            preexec_fn=prepare,
            timeout=_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _failed(data, f"initdb did not end within {_LIMIT_S:.0f} s") from None
    if done.returncode != 0:
        said = done.stdout.decode(errors="replace").strip().splitlines()
        # What went wrong comes first; the last it says is how it cleaned up after itself.
        wrong = [line for line in said if "error:" in line or "FATAL:" in line or "could not" in line]
        raise _failed(data, " · ".join(wrong[:2]) or (said[-1] if said else "initdb said nothing"))
    if owner is not None:
        for path in (data, *data.rglob("*")):
            os.chown(path, owner, owner, follow_symlinks=False)


def is_complete(data: Path) -> bool:
    """Whether there is a cluster in a folder."""
    return (data / "PG_VERSION").is_file()


def _failed(data: Path, hint: str) -> StoreUnavailable:
    return StoreUnavailable(f"no Postgres cluster could be made in {data}", id="store.init", hint=hint)
