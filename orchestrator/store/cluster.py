"""Make the empty cluster that an embedded Postgres begins with, and keep a copy of it for the next one.

`initdb` takes half a second of a processor, which is a third of the time that a native lab of a hundred nodes
needs to start. Its result is the same each time, so the first one is kept as a file, and later labs unpack it
in a twentieth of the time. A file that is damaged, or made by another server, is not used.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from orchestrator.errors import StoreUnavailable
from orchestrator.store.privileges import become, map_named_user, named_uid

if TYPE_CHECKING:
    import tarfile

__all__ = ["initialise", "keep", "kept_file", "unpack"]

COMPLETE = "PG_VERSION"
"""The file that says that there is a cluster; written last, so that a half unpacked one is none."""

_OPTIONS = (
    *("-U", "nm", "--auth-local=trust", "--auth-host=reject", "--no-sync", "--no-locale"),
    *("--encoding=UTF8", "--no-instructions", "--wal-segsize=1"),
    *("-c", "max_connections=40", "-c", "shared_buffers=32MB"),
    *("-c", "dynamic_shared_memory_type=mmap"),  # a killed initdb leaves nothing in /dev/shm, either
)

# Two newlines end a statement in single-user mode.
_DROP_TEMPLATES = b"""\
UPDATE pg_database SET datistemplate = false;

DROP DATABASE template1;

DROP DATABASE template0;

"""

_LIMIT_S = 60.0

Prepare = Callable[[], None] | None
"""What a child calls before it runs the program."""


def initialise(
    binaries: Path,
    data: Path,
    owner: int | None,
    *,
    keep_read_capability: bool,
    variables: Mapping[str, str],
    one_database: bool = False,
) -> None:
    """Make a cluster with `initdb` in an empty folder.

    Args:
        binaries: The folder of the server's programs.
        data: The cluster's folder.
        owner: Who is to own it; ourselves if None.
        keep_read_capability: Whether the programs are below a folder that is closed to other users.
        variables: The environment.
        one_database: Drop the templates of further databases; two thirds of the files.

    Raises:
        StoreUnavailable: It failed; the hint is what it said.
        OSError, subprocess.SubprocessError: It cannot be run.
    """
    prepare = map_named_user() if owner is None else None
    if owner is not None:
        # initdb wants to know its user's name, which the server's own user does not have.
        named = named_uid()
        os.chown(data, named, named)
        prepare = become(named, keep_read_capability=keep_read_capability)
    done = _run([str(binaries / "initdb"), "-D", str(data), *_OPTIONS], b"", prepare, variables)
    if done.returncode != 0:
        said = done.stdout.decode(errors="replace").strip().splitlines()
        # What went wrong comes first; the last it says is how it cleaned up after itself.
        wrong = [line for line in said if "error:" in line or "FATAL:" in line or "could not" in line]
        hint = " · ".join(wrong[:2]) or (said[-1] if said else "initdb said nothing")
        raise StoreUnavailable(f"no Postgres cluster could be made in {data}", id="store.init", hint=hint)
    if (
        one_database
    ):  # in single-user mode, which insists on a user with a name, too; a failure costs only room
        server = [str(binaries / "postgres"), "--single", "-F", "-j", "-D", str(data), "postgres"]
        _run(server, _DROP_TEMPLATES, prepare, variables)
    if owner is not None:
        for path in (data, *data.rglob("*")):
            os.chown(path, owner, owner, follow_symlinks=False)


def kept_file(folder: Path, binaries: Path) -> Path:
    """Where the cluster of these programs is kept; its name says which programs and options made it."""
    made_by = (binaries / "initdb").stat()
    facts = (str(binaries), made_by.st_size, made_by.st_mtime_ns, _OPTIONS, _DROP_TEMPLATES)
    return folder / f"cluster-{hashlib.sha256(repr(facts).encode()).hexdigest()[:16]}.tar"


def keep(file: Path, data: Path) -> None:
    """Keep a cluster that no server has used yet; one made by other programs is replaced.

    A lab starts without it, too, so a failure to write it is ignored.

    Args:
        file: What `kept_file` returned.
        data: The cluster.
    """
    import tarfile

    part: Path | None = None
    try:
        file.parent.mkdir(mode=0o700, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".cluster-", dir=file.parent)
        part = Path(name)
        with os.fdopen(handle, "wb") as output, tarfile.open(fileobj=output, mode="w") as archive:
            for path in sorted(data.rglob("*"), key=lambda each: (each == data / COMPLETE, each)):
                archive.add(path, str(path.relative_to(data)), recursive=False)
        for other in file.parent.glob("cluster-*.tar"):
            other.unlink(missing_ok=True)
        part.replace(file)
    except OSError:
        if part is not None:
            part.unlink(missing_ok=True)


def unpack(file: Path, data: Path, owner: int | None) -> bool:
    """Make a cluster from one that was kept, in an empty folder; False where there is none to be used."""
    import tarfile

    try:
        with file.open("rb") as source:
            if os.fstat(source.fileno()).st_uid != os.geteuid():
                return False  # whoever wrote it would choose which files we write
            with tarfile.open(fileobj=source, mode="r:") as archive:
                for member in archive:
                    _write(archive, member, data, owner)
    except (OSError, tarfile.TarError, EOFError, ValueError):
        pass
    if (data / COMPLETE).is_file():
        return True
    for entry in data.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    return False


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, data: Path, owner: int | None) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise ValueError(f"{name} leads out of the cluster")
    path = data / name
    if member.isdir():
        path.mkdir(mode=0o700)
    else:
        content = archive.extractfile(member)
        if content is None:
            raise ValueError(f"{name} is no file")
        whole = content.read()
        if len(whole) != member.size:
            raise ValueError(f"{name} is cut off")
        path.touch(mode=0o600)
        path.write_bytes(whole)
    if owner is not None:
        os.chown(path, owner, owner)


def _run(
    command: list[str], given: bytes, prepare: Prepare, variables: Mapping[str, str]
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command,
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        env=dict(variables),
        preexec_fn=prepare,
        timeout=_LIMIT_S,
        check=False,
    )
