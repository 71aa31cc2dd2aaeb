"""Run `nm` as ordinary users in tests that run as root, in a mount namespace of their own.

What an ordinary user can reach differs from machine to machine: the interpreter may be under `/root`, which
is closed to others, and the TUN device may be root's alone. Creating real accounts and changing permissions
would change the machine, so a mount namespace is made in which all is as on a machine that was set up for
users:

- the folders that the interpreter, its packages and the checkout are in are at their own paths, and closed
  folders above them show nothing but these;
- `/etc/passwd` names some of the users;
- a small file system holds their homes and TUN devices with the permissions that a test asks for.

All of it exists for one `cat` and whoever was let in, and is gone with them, even if the tests are killed.
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import TracebackType

from orchestrator import procfs
from orchestrator.deploy.home import Home
from orchestrator.deploy.processes import end
from orchestrator.procfs import identify
from tests.integration.conftest import ROOT, CommandResult

NAMED_UID = 59_000 + 2 * (os.getpid() % 490)
NAMELESS_UID = NAMED_UID + 1
"""The end of the range for people (1000 to 60000 on Debian), where hardly anybody is. Tests prove that a user
has no process left, so two test runs at once must not have users in common."""

NAME = "nm-test"


@dataclass(frozen=True)
class OrdinaryUser:
    """Somebody without rights.

    Attributes:
        uid: Their number, and their group's.
        world: The process whose mount namespace they live in.
        folder: Their home folder.
        environment: All of their environment.
        network: A process in whose network namespace they act, instead of the machine's.
    """

    uid: int
    world: int
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    network: int | None = None

    @property
    def home(self) -> Home:
        """Where their labs are, as they see it."""
        return Home(self.folder / ".local/state/nm")

    def nm(
        self, *words: object, before: Sequence[str] = (), timeout: float = 120, **more: str
    ) -> CommandResult:
        """Call `nm` as they would.

        Args:
            words: The command line.
            before: A program that runs it, such as `prlimit`.
            timeout: Seconds it may take.
            more: Further environment variables.
        """
        return self.run(
            *before, sys.executable, "-m", "orchestrator.cli", *map(str, words), timeout=timeout, **more
        )

    def run(self, *argv: str, timeout: float = 120, **more: str) -> CommandResult:
        """Run a program as this user and wait for it."""
        with self.start(*argv, **more) as process:
            try:
                out, err = process.communicate(timeout=timeout)
            finally:
                process.kill()
        return CommandResult(process.returncode, out, err)

    def start(self, *argv: str, **more: str) -> subprocess.Popen[str]:
        """Start a program as this user."""
        return subprocess.Popen(
            [
                *("nsenter", f"--mount=/proc/{self.world}/ns/mnt"),
                *((f"--net=/proc/{self.network}/ns/net",) if self.network else ()),
                "--",
                *("setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups", "--"),
                *("env", f"--chdir={self.folder}"),
                *argv,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**self.environment, **more},
        )

    def look(self, path: Path) -> Path:
        """The path of one of their files, as seen from outside their mount namespace."""
        return Path(f"/proc/{self.world}/root{path}")

    def processes(self) -> list[int]:
        """Every process of theirs."""
        found = []
        for pid in procfs.pids():
            with suppress(FileNotFoundError):
                owner, process = Path(f"/proc/{pid}").stat().st_uid, procfs.stat(pid)
                if owner == self.uid and process is not None and process.runs:
                    found.append(pid)
        return sorted(found)


class World:
    """The world that the users live in; a context manager.

    Attributes:
        named: A user with an account.
        nameless: A user whose id has no name, as in a container that was given a bare number.
        closed_tun: A TUN device that only root may open.
    """

    def __enter__(self) -> World:
        taken = {entry.pw_uid for entry in pwd.getpwall()}
        assert not taken & {NAMED_UID, NAMELESS_UID}, "somebody has the number that these tests use"
        self._place = Path(tempfile.mkdtemp(prefix="nm-world-"))
        self._place.chmod(0o755)
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "--", "sh", "-euc", _script(self._place)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None, "a pipe was asked for"
        assert self._holder.stdout.readline() == "ready\n", "the world could not be made"
        self.named = self._user(NAMED_UID)
        self.nameless = self._user(NAMELESS_UID)
        self.closed_tun = self._place / "closed-tun"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        left = [*self.named.processes(), *self.nameless.processes()]
        end([found for pid in left if (found := identify(pid))], 1.0, signals={})
        self._holder.send_signal(signal.SIGKILL)
        self._holder.communicate()
        shutil.rmtree(self._place)
        assert not left, f"processes were left: {left}"

    def open_tun(self) -> None:
        """Let the users open `/dev/net/tun`, too, which programs that know no other one need."""
        enter = ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", "--"]
        mount = ["mount", "--bind", str(self._place / "tun"), "/dev/net/tun"]
        subprocess.run([*enter, *mount], timeout=30, check=True)

    def _user(self, uid: int) -> OrdinaryUser:
        folder = self._place / str(uid)
        environment = {
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "NM_TUN_DEVICE": str(self._place / "tun"),
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(ROOT),
        }
        return OrdinaryUser(uid, self._holder.pid, folder, environment)


def _script(place: Path) -> str:
    """The shell script that furnishes the world, says so, and keeps it."""
    needed = sorted({ROOT, Path(sys.prefix), Path(sys.base_prefix)})
    closed = sorted({above for path in needed if (above := _closed(path))})
    lines = ["umask 022", f"mount -t tmpfs -o mode=0755 nm-world {place}", f"mkdir {place}/keep"]
    for number, path in enumerate(needed):
        kept = f"{place}/keep/{number}"
        lines += [f"mkdir {kept}", *_opened(path, kept, f"{place}/open-{number}")]
    lines += [f"mount -t tmpfs -o mode=0755 nm-world {shlex.quote(str(path))}" for path in closed]
    for number, path in enumerate(needed):
        if _closed(path) or not _open(path):
            quoted = shlex.quote(str(path))
            lines += [f"mkdir -p {quoted}", f"mount --rbind {place}/keep/{number} {quoted}"]
    lines += [
        f"mknod -m 0666 {place}/tun c 10 200",
        f"mknod -m 0600 {place}/closed-tun c 10 200",
        f"cp /etc/passwd {place}/passwd",
        f"echo {NAME}:x:{NAMED_UID}:{NAMED_UID}::{place}/{NAMED_UID}:/bin/sh >> {place}/passwd",
        f"mount --bind {place}/passwd /etc/passwd",
    ]
    for uid in (NAMED_UID, NAMELESS_UID):
        lines += [f"mkdir -m 0700 {place}/{uid}", f"chown {uid}:{uid} {place}/{uid}"]
    return "\n".join([*lines, "echo ready", "exec cat"])


_KEPT = "-path {0}/dataplane/target -prune -o -path {0}/.git -prune -o ! -type l"
"""The files of a folder that others have to read, as arguments of `find`."""


@cache
def _open(path: Path) -> bool:
    """Whether others may read all of a folder; what was made under a umask of 077 is its owner's alone."""
    words = [word.format(path) for word in _KEPT.split()]
    found = subprocess.run(
        ["find", path, *words, "!", "-perm", "-004", "-print", "-quit"], capture_output=True, check=True
    )
    return not found.stdout


def _opened(path: Path, place: str, layer: str) -> list[str]:
    """Put a folder at `place`; one that is closed to others with its permissions changed in a layer above.

    The layer takes the permissions alone, none of the contents, and the folder itself stays as it is.
    """
    if _open(path):
        return [f"mount --rbind {shlex.quote(str(path))} {place}"]
    # In the options of a mount, backslashes protect what would end the name of a folder.
    lower = re.sub(r"([\\,:])", r"\\\1", str(path))
    options = f"lowerdir={lower},upperdir={layer}/up,workdir={layer}/work,metacopy=on"
    return [
        f"mkdir -p {layer}/up {layer}/work",
        f"mount -t overlay -o {shlex.quote(options)} nm-open {place}",
        f"chmod 755 {place}",
        f"find {place} {_KEPT.format(place)} ! -perm -004 -exec chmod go+rX {{}} +",
    ]


def _closed(path: Path) -> Path | None:
    """The topmost folder on the way to `path` that others may not traverse."""
    above = [folder for folder in path.parents if not folder.stat().st_mode & stat.S_IXOTH]
    return above[-1] if above else None
