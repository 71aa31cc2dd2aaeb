"""Check this machine: TUN, namespaces, limits, memory, disk and programs.

A finding is the result of one check: ok, warning or problem; the last two say how to fix it. `require_fit`
refuses a start that cannot work, with the number of nodes that would fit where there are too many.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import stat
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from orchestrator import procfs
from orchestrator.deploy import rootless
from orchestrator.deploy.state import Backend
from orchestrator.errors import HostNotFit

TUN = Path(os.environ.get("NM_TUN_DEVICE") or "/dev/net/tun")
"""The TUN clone device of this machine; elsewhere where an administrator made one for ordinary users."""

NODE_BYTES = {"native": 1_200_000, "docker": 60_000_000}
"""Memory a node takes: natively what kernel and shards need, in a container a Python and a packet core."""

BASE_BYTES = 400_000_000
"""Postgres, the controller and the host process before the first node."""

PROCESS_BYTES = 25_000_000
"""What a further host process takes beside its nodes: 11 MB measured (PSS), 23 with small roles; and room."""

MOST_NODES = 6_000
"""Nodes of one lab. Each node has a route to each other one, so the controller's work grows with the square:
6,000 nodes were up in 56 s on two cores; with 10,000 it computes for longer than its clients wait."""

NODE_FILES = 4
"""Open files that a node costs the host process: two namespaces, its TUN queue, and what a role waits on."""

DISK_BYTES = {"native": 64_000_000, "docker": 1_000_000}
"""Room on disk that a lab takes: natively 40 MB for an empty Postgres, and the log of its changes."""

NODE_DISK_BYTES = 20_000
"""What a node takes of it: its TOML file, its lines in the logs, its rows."""

CGROUP = Path("/sys/fs/cgroup")

LAB_TASKS = 60
"""Processes and threads of a lab, whatever its size, with room for a few commands: Postgres has ten, the
controller and a host process a dozen each on two processors."""

SYSTEM_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"))
"""PATH, and the folders of programs that change the system."""

TUN_NUMBERS = (10, 200)
"""The device's numbers in every Linux (Documentation/admin-guide/devices.txt)."""


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        name: What, in two words.
        level: `ok`, `warning` (works, but not well), `problem` (cannot work).
        detail: What was found.
        hint: How to fix it.
        fix: Fixes it safely; None where a person has to.
    """

    name: str
    level: Literal["ok", "warning", "problem"]
    detail: str
    hint: str = ""
    fix: Callable[[], None] | None = None


def tun_device(path: Path = TUN, *, ours: bool = True) -> Finding:
    """Whether the TUN device is there and we may open it.

    Args:
        path: The device.
        ours: Whether it is we who will open it; the nodes of a container are opened by the engine's root.
    """
    name = "tun device"
    try:
        status = path.stat()
    except OSError:
        hint = "`sudo modprobe tun`; in a container, pass the device: `--device /dev/net/tun`"
        fix = _make_tun if os.geteuid() == 0 and path == Path("/dev/net/tun") else None
        return Finding(name, "problem", f"{path} is not there", hint, fix)
    numbers = (os.major(status.st_rdev), os.minor(status.st_rdev))
    if not stat.S_ISCHR(status.st_mode) or numbers != TUN_NUMBERS:
        hint = "unset NM_TUN_DEVICE, or let it name a device node: `sudo mknod -m 0666 PATH c 10 200`"
        return Finding(name, "problem", f"{path} is something else than the TUN device", hint)
    if not ours:
        return Finding(name, "ok", f"{path} is there")
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return Finding(name, "problem", f"{path}: {error.strerror}", _tun_hint(path, error, status))
    return Finding(name, "ok", f"{path} can be opened")


def namespaces(tun: Path = TUN) -> Finding:
    """Whether we may make network namespaces: as root with CAP_SYS_ADMIN, or in a user namespace."""
    name = "network namespaces"
    if os.geteuid() == 0:
        if _has_capability(21):
            if _in_chroot():
                hint = "use a container, `systemd-nspawn -D FOLDER`, or pivot_root instead of chroot"
                return Finding(
                    name, "problem", "this is a chroot, which the nodes' programs would escape from", hint
                )
            return Finding(name, "ok", "may be made")
        hint = "run on the machine itself, or give the container `--cap-add SYS_ADMIN`"
        return Finding(name, "problem", "CAP_SYS_ADMIN is missing", hint)
    refused = rootless.attempt(tun if os.access(tun, os.R_OK | os.W_OK) else None)
    if refused is None:
        return Finding(name, "ok", "may be made in a user namespace, without root")
    if refused.step == "tun device":
        # Its permissions are `tun_device`'s matter; what is left is a security module or a cgroup of devices.
        hint = "let a security module or the container's device rules allow it, or run as root"
        return Finding(name, "problem", f"no TUN device can be made in one: {refused}", hint)
    setting = rootless.forbidding_setting()
    if setting is not None:
        found, command = setting
        return Finding(
            name, "problem", f"user namespaces are not allowed: {found}", f"`{command}`, or run as root"
        )
    if refused.number == errno.ENOSPC:
        hint = (
            "`sudo sysctl -w user.max_user_namespaces=15000`; one inside another may be limited by the outer"
        )
        return Finding(name, "problem", f"all user namespaces that are allowed are in use: {refused}", hint)
    hint = "a container forbids them by seccomp unless told otherwise (`--security-opt seccomp=unconfined`)"
    return Finding(name, "problem", f"no user namespace can be made: {refused}", f"{hint}; or run as root")


def namespace_limit(nodes: int) -> Finding:
    """Whether the kernel lets one user have so many network namespaces."""
    name = "namespace limit"
    limits = {kind: _number(Path(f"/proc/sys/user/max_{kind}_namespaces")) for kind in ("net", "uts")}
    for kind, most in limits.items():
        if most is not None and nodes > most:
            detail = f"{most} {kind} namespaces are allowed, one for each node, but the lab has {nodes}"
            command = f"sudo sysctl -w user.max_{kind}_namespaces={2 * nodes}"
            hint = f"at most {most} nodes fit; `{command}` allows more"
            return Finding(name, "problem", detail, hint)
    limit = limits["net"]
    if limit is None:
        return Finding(name, "ok", "the kernel states none")
    return Finding(name, "ok", f"{limit} network namespaces are allowed, one for each node")


def processes() -> Finding:
    """Whether an ordinary user may have the processes of one more lab; root is not limited."""
    name = "process limit"
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    if soft == resource.RLIM_INFINITY or os.geteuid() == 0:
        return Finding(name, "ok", "there is none")
    running = _tasks(os.getuid())
    detail = f"{soft} processes and threads are allowed, {running} are running"
    if running + LAB_TASKS <= soft:
        return Finding(name, "ok", detail)
    more = running + 2 * LAB_TASKS
    raised = hard == resource.RLIM_INFINITY or hard >= more
    hint = (
        f"`ulimit -u {more}` raises it"
        if raised
        else f"`nproc` in /etc/security/limits.conf, {more} at least"
    )
    return Finding(name, "problem", f"{detail}, and a lab needs {LAB_TASKS}", hint)


def tool(command: str, package: str, path: str | None = None) -> Finding:
    """Whether a program is installed: in PATH, or in another list of folders."""
    found = shutil.which(command, path=path)
    if found:
        return Finding(command, "ok", found)
    return Finding(command, "problem", "is not installed", f"`sudo apt-get install {package}`")


def redirection() -> Finding:
    """Whether programs of nodes in max mode can enter without SOCKS5."""
    path = shutil.which("nft")
    if path:
        return Finding("nft", "ok", path)
    detail = "is not installed: max mode works by SOCKS5 alone"
    return Finding("nft", "warning", detail, "`sudo apt-get install nftables`")


def postgres_binaries() -> Finding:
    """Whether the embedded Postgres is installed."""
    from orchestrator.store.embedded import find_binaries

    try:
        return Finding("embedded postgres", "ok", str(find_binaries()))
    except HostNotFit as error:
        return Finding("embedded postgres", "problem", error.message, error.hint or "")


def memory(backend: Backend, nodes: int, processes: int = 1) -> Finding:
    """Whether so many nodes, in so many host processes, fit into the memory that is free."""
    available = _available()
    if available is None:
        return Finding("memory", "warning", "cannot be read")
    # Each node has its share of the host processes beyond the first, so that `--processes each` counts right.
    share = PROCESS_BYTES * (processes - 1) // max(1, nodes)
    fit = max(0, (available - BASE_BYTES) // (NODE_BYTES[backend] + share))
    detail = f"{available / 1e9:.1f} GB are free, room for about {fit} nodes"
    if nodes > fit:
        return Finding("memory", "problem", f"{detail}, but the lab has {nodes}", f"at most {fit} nodes fit")
    return Finding("memory", "ok", detail)


def lab_size(nodes: int) -> Finding:
    """Whether one controller can compute the routes of so many nodes in time."""
    name = "lab size"
    if nodes <= MOST_NODES:
        return Finding(name, "ok", f"at most {MOST_NODES:,} nodes in a lab")
    detail = f"{nodes:,} nodes, but one controller serves at most {MOST_NODES:,}"
    return Finding(name, "problem", detail, f"split the topology into labs of at most {MOST_NODES:,} nodes")


def open_files(nodes: int) -> Finding:
    """Whether the host process may hold the files of so many nodes."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    fit = max(0, (hard - 100) // NODE_FILES) if hard != resource.RLIM_INFINITY else 1_000_000
    detail = f"{hard} open files are allowed, enough for {fit} nodes a process"
    if nodes > fit:
        hint = f"at most {fit} nodes fit; `ulimit -Hn {nodes * NODE_FILES + 100}` as root, or `--processes`"
        return Finding("open files", "problem", f"{detail}, but there are {nodes}", hint)
    return Finding("open files", "ok", detail)


def disk(backend: Backend, home: Path, nodes: int) -> Finding:
    """Whether the disk under the home directory has enough space; a database fails obscurely without it."""
    needed = DISK_BYTES[backend] + nodes * NODE_DISK_BYTES
    folder = next((each for each in (home, *home.parents) if each.is_dir()), Path("/"))
    try:
        room = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding("disk", "warning", f"cannot tell how much room {folder} has: {error.strerror}")
    detail = f"{room / 1e6:.0f} MB free in {folder}, {needed / 1e6:.0f} MB needed"
    if room >= needed:
        return Finding("disk", "ok", detail)
    return Finding("disk", "problem", detail, "make room there, or set NM_HOME to a folder on another disk")


def _in_chroot() -> bool:
    """Whether our root is another than that of our mount namespace: entering one leaves a chroot."""
    enter = ["nsenter", "--mount=/proc/self/ns/mnt", "--", "stat", "-L", "-c", "%d %i", "/"]
    try:
        done = subprocess.run(
            enter, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return False  # what is missing or not allowed is found by others
    root = Path("/").stat()
    return done.stdout.split() != [str(root.st_dev), str(root.st_ino)]


def _has_capability(number: int) -> bool:
    effective = procfs.status("CapEff")
    return effective is not None and bool(int(effective, 16) >> number & 1)


def _tun_hint(path: Path, error: OSError, status: os.stat_result) -> str:
    if error.errno not in (errno.EACCES, errno.EPERM):
        return "`sudo modprobe tun`: the device node is there, its driver is not"
    if os.geteuid() == 0 or status.st_mode & 0o006 == 0o006:
        return "a container needs `--device /dev/net/tun`; on a file system mounted `nodev` no device opens"
    # 0666 is what distributions ship; making an interface asks for CAP_NET_ADMIN in its namespace anyway.
    return f"`sudo chmod 0666 {path}`; or set NM_TUN_DEVICE to a device node that you may open"


def _make_tun() -> None:
    """Load the driver and make its device node as distributions ship it."""
    with suppress(OSError):
        subprocess.run(
            ["modprobe", "tun"], stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False
        )
    path = Path("/dev/net/tun")
    if not path.exists():
        path.parent.mkdir(mode=0o755, exist_ok=True)
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(*TUN_NUMBERS))
        path.chmod(0o666)


def _tasks(user: int) -> int:
    """How many processes and threads a user has."""
    count = 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError):
                if entry.stat().st_uid == user:
                    count += sum(1 for _task in os.scandir(f"{entry.path}/task"))
    return count


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _available() -> int | None:
    """Memory that is free for us: the machine's, or what our control group still allows if that is less."""
    machine = _meminfo("MemAvailable")
    limit, used = _number(CGROUP / "memory.max"), _number(CGROUP / "memory.current")
    if machine is None or limit is None or used is None:
        return machine
    return min(machine, max(0, limit - used))


def _meminfo(key: str) -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:")), None)
