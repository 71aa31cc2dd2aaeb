"""Write rendered files to disk atomically."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import HostNotFit
from orchestrator.plan import AUTHORITY_FILE, CERTIFICATE_FILE, KEY_FILE, DeploymentPlan
from orchestrator.render.files import RenderedFile, render

__all__ = ["RunDirectory", "update", "write"]

_TOPOLOGY, _HOSTS, _SERVICES = "topology.yaml", "hosts", "services.json"


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """A folder with everything that a start of a lab needs.

    Attributes:
        path: The folder, readable by its owner alone.
        files: What was written, in order.
    """

    path: Path
    files: tuple[Path, ...]

    def node(self, node_id: int) -> Path:
        """Return the file of a node."""
        return self.path / f"node-{node_id}.toml"

    @property
    def controller(self) -> Path:
        """Return the controller's file."""
        return self.path / "controller.toml"

    @property
    def compose(self) -> Path:
        """Return the compose file; only there for the docker backend."""
        return self.path / "docker-compose.yml"

    @property
    def hosts(self) -> Path:
        """Return the nodes' `/etc/hosts`."""
        return self.path / "hosts"

    @property
    def manifest(self) -> Path:
        """Return the list of what was written, with hashes."""
        return self.path / "manifest.json"


def write(plan: DeploymentPlan, directory: Path | str) -> RunDirectory:
    """Render a plan into a folder, which is made if need be.

    A file that stood there before is replaced whole: a reader sees the old one or the new one. Node files of
    an earlier and larger lab are removed.

    Raises:
        HostNotFit: The folder cannot be written.
    """
    folder = Path(directory)
    files = render(plan)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        _remove_stale_files(folder, {file.name for file in files})
        paths = tuple(_put(folder, file) for file in files)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return RunDirectory(folder, paths)


def update(plan: DeploymentPlan, directory: Path | str, *, commit: bool) -> None:
    """Render the plan of a lab that is up over its files, in two steps.

    The first, without `commit`, writes all but the topology and removes nothing, so that a lab whose change
    is interrupted still has the files of both. The second writes the rest. A file whose text is the same is
    not written. `hosts` is overwritten where it is: it is mounted in nodes, which would keep the old one.

    Raises:
        HostNotFit: The folder cannot be written.
    """
    folder = Path(directory)
    files = render(plan)
    try:
        for file in files:
            if (file.name == _TOPOLOGY) is not commit or _is_so(folder / file.name, file.text):
                continue
            if file.name == _HOSTS and (folder / _HOSTS).exists():
                _overwrite(folder / _HOSTS, file.text)
            else:
                _put(folder, file)
        if _SERVICES not in {file.name for file in files}:
            (folder / _SERVICES).unlink(missing_ok=True)  # who runs services reads it again before the end
        if commit:
            _remove_stale_files(folder, {file.name for file in files})
    except OSError as error:
        raise _unwritable(folder, error) from error


def _is_so(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") == text
    except (OSError, UnicodeDecodeError):
        return False


def _overwrite(path: Path, text: str) -> None:
    """Change a file's content and keep the file; one write, so that a reader hardly sees half of it."""
    data = text.encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(descriptor, data, 0)
        os.ftruncate(descriptor, len(data))
    finally:
        os.close(descriptor)


def _unwritable(folder: Path, error: OSError) -> HostNotFit:
    return HostNotFit(
        f"the run directory {folder} cannot be written: {error.strerror}",
        id="host.run-directory",
        found=str(error.filename or folder),
        expected="a folder that this user may write, with free space on its disk",
    )


def _remove_stale_files(folder: Path, names: set[str]) -> None:
    ours = [*folder.glob("node-*.toml"), folder / "docker-compose.yml", folder / "postgres-password"]
    ours += [folder / name for name in (AUTHORITY_FILE, CERTIFICATE_FILE, KEY_FILE)]
    for path in ours:
        if path.name not in names:
            path.unlink(missing_ok=True)


def _put(folder: Path, file: RenderedFile) -> Path:
    path = folder / file.name
    fresh = folder / f".{file.name}.new"
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, file.mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as stream:
            os.fchmod(stream.fileno(), file.mode)  # whatever the umask says
            stream.write(file.text)
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)  # half of it: the disk is full
        raise
    return path
