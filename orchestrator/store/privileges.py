"""Run a child process as an unprivileged user when we are root.

Postgres refuses to run as root. A child that becomes another user may however not reach its own files any
more, when a folder above them is closed to others (`/root`, pytest's temporary folders). For that case one
capability can be kept across the change, the one that allows a process to traverse folders and read.

Where no other user exists, the child uses an account's name: in a user namespace of its own, the same files
belong to a named user that is not root. That is so for an ordinary user whose id has no name, as in a
container that was given a bare number, and for root of a user namespace without other users.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
import zlib
from collections.abc import Callable
from pathlib import Path

from orchestrator import syscalls
from orchestrator.errors import HostNotFit

__all__ = ["become", "map_named_user", "may_become", "may_traverse", "named_uid", "spare_uid"]

# Outside what useradd gives to people and services, and in the range that systemd hands out for a process's
# lifetime and takes back (61184 to 65519, `man systemd.exec`, DynamicUser).
_FIRST_UID, _UIDS = 61_184, 4_000

# capabilities(7): without it, access(2) leaves a process's capabilities aside when its real user is not root;
# initdb looks for the server's program with access(2), and would not find it below a closed folder.
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_CAP_DAC_READ_SEARCH = 2


def spare_uid(name: str) -> int:
    """Return a user id for `name` that is not used on this machine, always the same one."""
    taken = {entry.pw_uid for entry in pwd.getpwall()}
    start = zlib.crc32(name.encode())
    for step in range(_UIDS):
        uid = _FIRST_UID + (start + step) % _UIDS
        if uid not in taken:
            return uid
    raise HostNotFit("no user id is free for the embedded Postgres", id="host.no-uid")


def named_uid() -> int:
    """Return the user id of an account without rights, for a program that insists on having a name."""
    accounts = {entry.pw_name: entry.pw_uid for entry in pwd.getpwall() if entry.pw_uid != 0}
    for name in ("nobody", *sorted(accounts)):
        if name in accounts:
            return accounts[name]
    raise HostNotFit("there is no account but root's", id="host.no-uid", hint="add the account `nobody`")


def may_traverse(path: Path) -> bool:
    """Tell whether any user may traverse every folder down to `path`, itself included."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (path, *path.parents))


def become(uid: int, *, keep_read_capability: bool) -> Callable[[], None]:
    """Return what a child has to call before it runs the program, to run as `uid`.

    Args:
        uid: The user and group to become.
        keep_read_capability: Keep the capability to enter closed folders and to read what is in them.
    """

    def prepare() -> None:
        if keep_read_capability:
            syscalls.prctl(syscalls.PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP)
            syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 1)
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        if keep_read_capability:
            syscalls.set_capability(_CAP_DAC_READ_SEARCH)
            syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_RAISE, _CAP_DAC_READ_SEARCH)

    return prepare


def may_become(uid: int, table: Path = Path("/proc/self/uid_map")) -> bool:
    """Tell whether there is such a user in our user namespace; in the machine's own there is everybody."""
    ranges = (line.split() for line in table.read_text().splitlines())
    return any(int(first) <= uid < int(first) + int(count) for first, _outside, count in ranges)


def map_named_user() -> Callable[[], None] | None:
    """Return what a child has to call before it runs a program that insists on a named user other than root.

    None when we are such a user. To the child its files seem to belong to an account without rights; to
    everybody else they are ours.
    """
    ours, group = os.geteuid(), os.getegid()
    if ours != 0:
        with contextlib.suppress(KeyError):
            pwd.getpwuid(ours)
            return None
    named = named_uid()

    def prepare() -> None:
        syscalls.unshare(syscalls.CLONE_NEWUSER)
        syscalls.map_user(named, ours, group)

    return prepare
