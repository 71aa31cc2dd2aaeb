"""Make the empty cluster that an embedded Postgres begins with, and keep a copy of it for the next one.

`initdb` takes half a second of a processor, which is a third of the time that a native lab of a hundred nodes
needs to start. Its result is the same each time, so the first one is kept as a tar file, and later labs
unpack it, which is faster. A file that is damaged, another user's, or made by another server is not used.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from orchestrator.errors import StoreUnavailable
from orchestrator.store.privileges import become, map_named_user, named_uid

if TYPE_CHECKING:
    import tarfile

__all__ = ["PART_PREFIX", "initialise", "is_complete", "keep", "kept_file", "unpack"]

_OPTIONS = (
    *("-U", "nm", "--auth-local=trust", "--auth-host=reject", "--no-sync", "--no-locale"),
    *("--encoding=UTF8", "--no-instructions", "--wal-segsize=1"),
    *("-c", "max_connections=40", "-c", "shared_buffers=32MB"),
    *("-c", "dynamic_shared_memory_type=mmap"),  # a killed initdb leaves nothing in /dev/shm, either
)

_LIMIT_S = 60.0

PART_PREFIX = ".cluster-"
"""How the name of a file begins that `keep` has not finished."""

_PART_LIMIT_S = 3600.0
"""The age at which an unfinished file belongs to no running `keep`, which takes a second."""

_ROOM_BYTES = 200_000_000
"""What must be free on disk to keep a cluster: seven times its size, so that running labs do not lack it."""

_DIGEST_SIZE = hashlib.sha256().digest_size

Prepare = Callable[[], None] | None
"""What a child calls before it runs the program."""


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


def kept_file(folder: Path, binaries: Path) -> Path:
    """Where the cluster of these programs is kept; its name says which programs and options made it."""
    made_by = (binaries / "initdb").stat()
    facts = (str(binaries), made_by.st_size, made_by.st_mtime_ns, _OPTIONS)
    return folder / f"cluster-{hashlib.sha256(repr(facts).encode()).hexdigest()[:16]}.tar"


def keep(file: Path, data: Path) -> None:
    """Keep a cluster that no server has used yet; one made by other programs is replaced.

    The file is a tar archive with the SHA-256 of its content appended. A lab starts without it, too, so a
    failure to write it is ignored, and on a disk with little room it is not written.

    Args:
        file: What `kept_file` returned.
        data: The cluster.
    """
    import tarfile

    part: Path | None = None
    try:
        file.parent.mkdir(mode=0o700, exist_ok=True)
        _remove_old_parts(file.parent)
        if shutil.disk_usage(file.parent).free < _ROOM_BYTES:
            return
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as archive:
            for path in sorted(data.rglob("*")):
                archive.add(path, str(path.relative_to(data)), recursive=False)
        handle, name = tempfile.mkstemp(prefix=PART_PREFIX, dir=file.parent)
        part = Path(name)
        with os.fdopen(handle, "wb") as output:
            output.write(content.getbuffer())
            output.write(hashlib.sha256(content.getbuffer()).digest())
            output.flush()
            os.fsync(output.fileno())
        part.replace(file)
        for other in file.parent.glob("cluster-*.tar"):
            if other != file:
                other.unlink(missing_ok=True)
    except (OSError, tarfile.TarError):
        pass
    finally:
        if part is not None:
            with suppress(OSError):
                part.unlink(missing_ok=True)


def unpack(file: Path, data: Path, owner: int | None) -> bool:
    """Make a cluster from one that was kept, in an empty folder.

    It is unpacked beside that folder and renamed at the end, so that an interrupted one is no cluster.

    Returns:
        Whether the cluster is there. If not, nothing was changed: the file is missing, damaged or another
        user's, or what is in it could not be written.
    """
    import tarfile

    part = data.with_name(f"{data.name}.part")
    try:
        content = _content(file)
        if part.exists():
            shutil.rmtree(part)
        _make_folder(part, owner)
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            for member in archive:
                _write(archive, member, part, owner)
        part.rename(data)
    except (OSError, tarfile.TarError, EOFError, ValueError, KeyError):
        shutil.rmtree(part, ignore_errors=True)
        return False
    return True


def _content(file: Path) -> bytes:
    """The archive in a kept file, which is read and checked as a whole before anything of it is written."""
    with file.open("rb") as source:
        found = os.fstat(source.fileno())
        if found.st_uid != os.geteuid():
            raise ValueError(f"{file} is another user's, who would choose which files we write")
        content = source.read(max(found.st_size - _DIGEST_SIZE, 0))
        if hashlib.sha256(content).digest() != source.read():
            raise ValueError(f"{file} is damaged")
    return content


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, owner: int | None) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise ValueError(f"{name} leads out of the cluster")
    if not (member.isdir() or member.isreg()):
        raise ValueError(f"{name} is neither a file nor a directory")
    if member.isdir():
        _make_folder(folder / name, owner)
        return
    source = archive.extractfile(member)
    assert source is not None, "a regular file has content"
    content = source.read()
    if len(content) != member.size:
        raise ValueError(f"{name} is cut off")
    with os.fdopen(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as output:
        if owner is not None:
            os.fchown(output.fileno(), owner, owner)
        output.write(content)


def _make_folder(path: Path, owner: int | None) -> None:
    path.mkdir(mode=0o700)
    if owner is not None:
        os.chown(path, owner, owner)


def _remove_old_parts(folder: Path) -> None:
    """Remove the files of `keep` calls that were killed."""
    for part in folder.glob(f"{PART_PREFIX}*"):
        with suppress(OSError):
            if time.time() - part.stat().st_mtime > _PART_LIMIT_S:
                part.unlink()


def _failed(data: Path, hint: str) -> StoreUnavailable:
    return StoreUnavailable(f"no Postgres cluster could be made in {data}", id="store.init", hint=hint)
