"""Stage the files named by scenario parameters where the nodes can read them.

A native node reads the machine's files. A container reads the lab's share folder, so a file is linked into
it, or copied where linking does not work: across file systems, or when not everybody may read the file,
because root in a container without capabilities is bound by permissions.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

from orchestrator.deploy.backends import host_for
from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.host import Host
from orchestrator.deploy.state import Backend
from orchestrator.errors import HostNotFit


async def stage(host: Host, directory: LabDirectory, backend: str, path: Path) -> str:
    """Return the path under which every node can read a file of this machine.

    Args:
        host: The lab's backend.
        directory: The lab.
        backend: Its name.
        path: The file, absolute.

    Raises:
        HostNotFit: It does not fit on the disk.
    """
    if backend == "native":
        return host.payload_path(path)
    name = f"{hashlib.sha256(str(path).encode()).hexdigest()[:8]}-{path.name}"
    target = directory.share / name
    await asyncio.to_thread(_link_or_copy, path, target)
    return host.payload_path(target)


async def stage_all(directory: LabDirectory, backend: Backend, uploads: Mapping[str, Path]) -> dict[str, str]:
    """Return the path of each parameter's file under which every node can read it; see `stage`."""
    host = host_for(backend)
    return {name: await stage(host, directory, backend, path) for name, path in uploads.items()}


def _link_or_copy(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        if source.stat().st_mode & stat.S_IROTH:
            try:
                os.link(source, target)
                return
            except OSError:
                pass  # another file system, or a protected file: a copy does
        shutil.copyfile(source, target)
        target.chmod(0o644)
    except OSError as error:
        target.unlink(missing_ok=True)
        raise HostNotFit(
            f"cannot bring {source} into the lab: {error.strerror or error}",
            id="payload.staging",
            hint="the disk under the lab's folder may be full; NM_HOME moves it",
        ) from error
