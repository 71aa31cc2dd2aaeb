"""Read network namespace cookies, which identify a namespace uniquely until the next boot.

The inode number of a namespace is reused as soon as the namespace is gone; its cookie (`SO_NETNS_COOKIE`,
Linux 5.14) is not. The cookie is read through a socket inside the namespace, so a separate process enters it,
which runs `main` here and loads as little as it can.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

SO_NETNS_COOKIE = 71
LIMIT_S = 10.0
"""Reading takes microseconds; starting an interpreter on a busy machine is what takes time."""

_PROGRAM = """\
import sys
sys.path.append(sys.argv.pop(1))
from orchestrator.deploy.netns_cookies import main
main()
"""


def netns_cookies(pids: Iterable[int]) -> dict[int, int]:
    """The cookies of the network namespaces of processes; those that cannot be read are missing."""
    words = [str(pid) for pid in pids]
    if not words:
        return {}
    command = [sys.executable, "-I", "-S", "-c", _PROGRAM, str(Path(__file__).parents[2]), *words]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=LIMIT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    pairs = (line.split() for line in done.stdout.decode().splitlines())
    return {int(pid): int(cookie) for pid, cookie in pairs}


def own_netns_cookie() -> int:
    """The cookie of the calling thread's network namespace; 0 where the kernel has none."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            return int.from_bytes(probe.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8), sys.byteorder)
    except OSError:
        return 0


def main() -> None:
    """Print the cookies of the processes whose numbers are the program's arguments, a line each."""
    # Before the first fork, or each child would load it; not at the top, because every `nm exec` loads this
    # module and enters no namespace.
    from orchestrator import syscalls  # noqa: F401

    for pid in sys.argv[1:]:
        # One child process each: from inside one user namespace no other can be entered.
        child = os.fork()
        if child == 0:
            before = Path(f"/proc/{pid}/ns/net")
            if _enter(pid) and before.exists():
                print(pid, own_netns_cookie(), flush=True)
            os._exit(0)
        os.waitpid(child, 0)


def _enter(pid: str) -> bool:
    """Move into a process's network, through its user namespace where that is the only way."""
    from orchestrator import syscalls

    for kind, flag in (
        ("net", syscalls.CLONE_NEWNET),
        ("user", syscalls.CLONE_NEWUSER),
        ("net", syscalls.CLONE_NEWNET),
    ):
        with suppress(OSError), Path(f"/proc/{pid}/ns/{kind}").open("rb") as namespace:
            syscalls.setns(namespace.fileno(), flag)
            if kind == "net":
                return True
    return False
