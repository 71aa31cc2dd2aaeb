"""The directory of a lab on disk: paths, permissions, creation and removal.

Everything a lab needs on disk is under one home: `$NM_HOME`, or `/var/lib/nm` for root, or the user's state
folder. `nm down` may therefore prove by looking that nothing is left, and two homes never disturb each other.

```text
HOME/
  locks/<lab>.lock        held while a lab is started or stopped; locks/_subnet.lock while a subnet is chosen
  labs/<lab>/             0711: the database server's own user has to walk through it
    nm-lab                says that this folder is a lab's; one without it is foreign
    state.json            what was started, by whom, and how far it came
    host.json             native: the host process's table of namespaces
    supervisor.lock       native: held by the supervisor; supervisor.json says what it did
    run/                  0700: the rendered files, with their secrets
    run/share/            docker: payload files that roles read
    run/links/            native: the unix sockets of links between host processes
    logs/                 one file per process
    work/                 native: the code of scenarios that run
    db/                   native: the embedded Postgres
```

This module only knows names and permissions; who writes which file is each file's own business.
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import HostNotFit, UsageError

LAB_NAME = re.compile(r"^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$")
"""A lab's name is part of paths, container names and labels, so it is kept to what all of them allow."""


@dataclass(frozen=True)
class LabDirectory:
    """The folder of one lab; the properties name what is in it."""

    path: Path

    @property
    def name(self) -> str:
        """The lab's name, which is the folder's."""
        return self.path.name

    @property
    def home(self) -> Path:
        """The home that the lab is in."""
        return self.path.parent.parent

    @property
    def state_file(self) -> Path:
        """What was started and how far it came; see `orchestrator.deploy.state`."""
        return self.path / "state.json"

    @property
    def host_file(self) -> Path:
        """The native host process's table of namespaces."""
        return self.host_table("host")

    def host_table(self, part: str) -> Path:
        """The table of the host process of that name; a lab may have several."""
        return self.path / f"{part}.json"

    def host_tables(self) -> list[Path]:
        """The tables of all host processes, whether these still run or not."""
        return sorted(self.path.glob("host*.json"))

    def set_aside(self, part: str) -> None:
        """Keep an ended host process's table: processes may still be in its namespaces."""
        table = self.host_table(part)
        with suppress(FileNotFoundError):
            table.rename(self.path / f"{part}.gone-{table.stat().st_mtime_ns}.json")

    @property
    def run(self) -> Path:
        """The rendered files."""
        return self.path / "run"

    @property
    def logs(self) -> Path:
        """Log files, one per process."""
        return self.path / "logs"

    @property
    def database(self) -> Path:
        """The embedded Postgres."""
        return self.path / "db"

    @property
    def share(self) -> Path:
        """Payload files that roles read; inside the run folder, where the compose file looks."""
        return self.path / "run" / "share"

    @property
    def links(self) -> Path:
        """The unix sockets of links between host processes."""
        return self.path / "run" / "links"

    @property
    def mark(self) -> Path:
        """The file that marks a folder as a lab's."""
        return self.path / "nm-lab"

    def exists(self) -> bool:
        """Whether there is anything of the lab on disk; what is not ours does not count."""
        return os.path.lexists(self.path) and not self._foreign()

    def create(self) -> None:
        """Make the folder and its parts, each with its own permissions whatever the umask says.

        Raises:
            HostNotFit: The home cannot be written; the error names the folder and the way around it.
                `home.name-taken`: Something that is not ours has the folder's name.
        """
        if os.path.lexists(self.path) and self._foreign():
            raise HostNotFit(
                f"{self.path} is there already, and is no lab",
                id="home.name-taken",
                found=str(self.path),
                expected="nothing, or a folder that `nm up` made",
                hint="move it away, give the lab another name with `-n`, or set NM_HOME to another folder",
            )
        try:
            make_folder(self.path, 0o711)
            self.path.chmod(0o711)
            self.mark.touch(mode=0o600)
            for part in (self.run, self.logs, self.links):
                part.mkdir(mode=0o700, exist_ok=True)
                part.chmod(0o700)
            self.share.mkdir(mode=0o755, exist_ok=True)
            self.share.chmod(0o755)
        except OSError as error:
            raise unwritable(self.path, error) from error

    def remove(self) -> list[str]:
        """Delete the folder with everything in it; return what could not be deleted, as sentences.

        The mark is removed last, so that an interrupted removal leaves a lab's folder.
        """
        left: list[str] = []

        def remember(_function: object, path: str, failure: tuple[object, BaseException, object]) -> None:
            if not isinstance(failure[1], FileNotFoundError):
                left.append(f"file {path}: {failure[1]}")

        if not self.exists():
            return left
        for entry in list(self.path.iterdir()):
            if entry == self.mark:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, onerror=remember)
            else:
                _unlink(entry, left)
        if not left:
            _unlink(self.mark, left)
            shutil.rmtree(self.path, onerror=remember)
        return left

    def _foreign(self) -> bool:
        """Whether the folder is foreign; an empty folder is one whose creation was interrupted."""
        if self.path.is_symlink() or not self.path.is_dir():
            return True
        try:
            return not self.mark.is_file() and any(self.path.iterdir())
        except OSError:
            return True


@dataclass(frozen=True)
class Home:
    """The folder that all labs of one user live in."""

    path: Path

    @classmethod
    def default(cls) -> Home:
        """The home of this process: `$NM_HOME`, `/var/lib/nm` for root, or the user's state folder."""
        given = os.environ.get("NM_HOME")
        if given:
            return cls(Path(given).absolute())
        if os.geteuid() == 0:
            return cls(Path("/var/lib/nm"))
        state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
        return cls(Path(state) / "nm")

    @property
    def locks(self) -> Path:
        """Lock files; they stay, because deleting a lock file while another waits for it breaks the lock."""
        return self.path / "locks"

    def lab(self, name: str) -> LabDirectory:
        """The folder of the lab called `name`, whether it exists or not.

        Raises:
            UsageError: The name could leave the folder or is not one that containers may carry.
        """
        return LabDirectory(self.path / "labs" / checked_name(name))

    def labs(self) -> list[LabDirectory]:
        """Every lab that has a folder, sorted by name; what we did not make is not a lab."""
        try:
            entries = sorted((self.path / "labs").iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise unwritable(self.path, error) from error
        named = (LabDirectory(entry) for entry in entries if LAB_NAME.fullmatch(entry.name))
        return [lab for lab in named if lab.exists()]


def make_folder(path: Path, mode: int) -> None:
    """Make a folder with these permissions, and those above it that are missing: no umask adds or takes any.

    Raises:
        OSError: It cannot be made.
    """
    if not path.parent.exists():
        make_folder(path.parent, 0o711)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if not path.is_dir():
            raise
    else:
        path.chmod(mode)


def _unlink(path: Path, left: list[str]) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        left.append(f"file {path}: {error}")


def checked_name(name: str) -> str:
    """Return `name` if a lab may be called so, or say what is wrong with it."""
    if not LAB_NAME.fullmatch(name):
        raise UsageError(
            f"`{name}` cannot be the name of a lab",
            id="lab.bad-name",
            found=name,
            expected="1 to 40 of a-z, 0-9 and -, beginning and ending with a letter or a digit",
        )
    return name


def unwritable(path: Path, error: OSError) -> HostNotFit:
    """The error for a home that cannot be used, whatever the reason the kernel gave."""
    return HostNotFit(
        f"cannot write {path}: {error.strerror or error}",
        id="home.unwritable",
        found=str(path),
        hint="set NM_HOME to a folder that you may write",
    )
