"""Copy files between this machine and nodes or services: `FILE 3:/path`, `3/redis:/path FILE`.

A place ends like that of `cp -r`: in a folder that is there, the copy keeps its name. Copies belong to the
user whose rights the copying has, there or here.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from orchestrator.deploy import node_command
from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.node_states import require_running
from orchestrator.deploy.state import LabState
from orchestrator.errors import NmError, UsageError
from orchestrator.lab.find import require_inside, select_node
from orchestrator.lab.service import select_service
from orchestrator.services import Instance

if TYPE_CHECKING:
    from orchestrator.lab.handle import AsyncLab

__all__ = ["CopyFailed", "Target", "copy", "copy_words", "parse"]

_MOST_NAMED = 5
"""Members of an archive that are named when the filter refuses them."""

_REMOTE = re.compile(r"([^/:.][^:]*):(/.*)")


class CopyFailed(NmError):
    """A file could not be copied."""

    id = "cp.failed"
    exit_code = 1


@dataclass(frozen=True)
class Target:
    """A path in a node, or in the container of a service."""

    node: int
    path: str
    service: Instance | None = None

    def __str__(self) -> str:
        return f"{self.service.key if self.service else self.node}:{self.path}"


def parse(directory: LabDirectory, state: LabState, word: str | Path) -> Target | Path:
    """What `3:/path`, `3/redis:/path` or a path of this machine means.

    Raises:
        UsageError: There is no such node or service.
    """
    found = _REMOTE.fullmatch(word) if isinstance(word, str) else None
    if found is None:
        return Path(word)
    if "/" in found[1]:
        service = select_service(directory, state, found[1])
        return Target(service.node, found[2], service)
    return Target(select_node(state, found[1]), found[2])


async def copy_words(lab: AsyncLab, source: str | Path, target: str | Path) -> None:
    """Copy, in a thread of its own, what `parse` makes of both.

    Raises:
        CopyFailed: It cannot be read or written.
    """
    directory = LabDirectory(lab.directory)
    ends = [parse(directory, lab.note, each) for each in (source, target)]
    await asyncio.to_thread(copy, directory, lab.note, *ends)


def copy(directory: LabDirectory, state: LabState, source: Target | Path, target: Target | Path) -> None:
    """Copy a file or a folder.

    Raises:
        UsageError: Not exactly one of both is in a node.
        CopyFailed: It cannot be read or written.
    """
    if isinstance(source, Target) is isinstance(target, Target):
        raise UsageError(
            "one of the two is on this machine, the other in a node",
            id="cp.places",
            found=f"{source} {target}",
            expected="`FILE 3:/path` or `3:/path FILE`",
        )
    there = source if isinstance(source, Target) else target
    assert isinstance(there, Target), "one of them is"
    require_inside(state, [there.node])
    require_running(directory, [there.node])
    if state.backend == "docker" and there.service is not None:
        _with_engine(state, there.service, source, target)
    elif isinstance(source, Path):
        _send(directory, state, source, there)
    else:
        assert isinstance(target, Path), "the other one is in a node"
        _fetch(directory, state, there, target)


def _with_engine(state: LabState, service: Instance, *places: Target | Path) -> None:
    """Images need not have any program, so the engine copies."""
    container = node_command.service_container(state, service)
    words = [f"{container}:{each.path}" if isinstance(each, Target) else str(each) for each in places]
    done = subprocess.run(["docker", "cp", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CopyFailed(f"{places[0]} was not copied to {places[1]}: {done.stderr.strip()}")


def _send(directory: LabDirectory, state: LabState, source: Path, target: Target) -> None:
    if not source.exists():
        raise CopyFailed(f"{source} is not there", found=str(source))
    inside = target.path.endswith("/") or _is_folder(directory, state, target)
    path = PurePosixPath(target.path)
    source = source.resolve()  # what a link leads to is copied, as `docker cp -L` does
    folder, name = (path, source.name) if inside else (path.parent, path.name)
    words = ["tar", "--extract", "--no-same-owner", f"--directory={folder}", "--file=-"]
    with _inside(directory, state, target, words, subprocess.PIPE) as (process, complaints):
        assert process.stdin is not None, "a pipe was asked for"
        try:
            with tarfile.open(fileobj=process.stdin, mode="w|") as archive:
                archive.add(source, arcname=name)
        except OSError as error:
            if not isinstance(error, BrokenPipeError):
                raise CopyFailed(f"{source} cannot be read: {error}", found=str(source)) from error
        _end(process, complaints, f"{source} was not copied to {target}")


def _fetch(directory: LabDirectory, state: LabState, source: Target, target: Path) -> None:
    path = PurePosixPath(source.path)
    words = ["tar", "--create", f"--directory={path.parent}", "--file=-", "--", path.name or "."]
    target = target / path.name if target.is_dir() else target
    with _inside(directory, state, source, words, subprocess.DEVNULL) as (process, complaints):
        assert process.stdout is not None, "a pipe was asked for"
        wrong = _unpack(process.stdout, target, path.name or ".")
        _end(process, complaints, f"{source} was not copied to {target}")
    if wrong:
        raise CopyFailed(f"{source} was not copied to {target}: {wrong}")


def _unpack(stream: IO[bytes], target: Path, name: str) -> str:
    """Write what comes under the name to the target; return what went wrong.

    It is unpacked into a folder of its own, which no member can leave, and then put into its place. What the
    filter refuses is left out and named.
    """
    refused: list[str] = []
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                for member in archive:
                    try:
                        if ".." in PurePosixPath(member.name).parts:
                            raise tarfile.OutsideDestinationError(member, folder)
                        archive.extract(member, folder, set_attrs=True, filter="data")
                    except (tarfile.FilterError, KeyError) as error:
                        refused.append(f"{member.name}: {error}")
            made = Path(folder, name)
            if made.is_dir() and not made.is_symlink() and (target.is_dir() or made == Path(folder)):
                shutil.copytree(made, target, symlinks=True, dirs_exist_ok=True)
            elif os.path.lexists(made):  # if nothing came, the other end says why
                made.replace(target)
    except (OSError, ValueError, tarfile.TarError) as error:
        while stream.read(1 << 16):  # so that the other end does not fail as well
            pass
        return "" if isinstance(error, tarfile.ReadError) else str(error)
    return "; ".join(refused[:_MOST_NAMED]) + (" …" if len(refused) > _MOST_NAMED else "")


def _is_folder(directory: LabDirectory, state: LabState, target: Target) -> bool:
    words = ["test", "-d", target.path]
    with _inside(directory, state, target, words, subprocess.DEVNULL) as (process, _complaints):
        process.communicate()
        return process.returncode == 0


@contextmanager
def _inside(
    directory: LabDirectory, state: LabState, target: Target, words: Sequence[str], stdin: int
) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """Run a program in a node or service; what it writes to stderr is in the file."""
    if target.service is not None:
        argv = node_command.service_command(directory, state, target.service, words)
    else:
        argv = node_command.command(directory, state, target.node, words)
    # A file, because nobody would read a pipe while data flows, and a program that cannot write waits.
    with (
        tempfile.TemporaryFile() as complaints,
        subprocess.Popen(argv, stdin=stdin, stdout=subprocess.PIPE, stderr=complaints) as process,
    ):
        yield process, complaints


def _end(process: subprocess.Popen[bytes], complaints: IO[bytes], failed: str) -> None:
    process.communicate()
    if process.returncode:
        complaints.seek(0)
        said = complaints.readline(4096).decode(errors="replace").strip()
        raise CopyFailed(f"{failed}: {said or f'exit code {process.returncode}'}")
