"""System calls that the standard library of Python 3.11 does not offer.

A call that the kernel refuses raises the `OSError` of its reason, such as `PermissionError`. The library is
loaded when this module is imported, so that a child between fork and exec does not have to.
"""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path

__all__ = [
    "CLONE_NEWNET",
    "CLONE_NEWNS",
    "CLONE_NEWUSER",
    "CLONE_NEWUTS",
    "KCMP",
    "PR_CAP_AMBIENT",
    "PR_CAP_AMBIENT_RAISE",
    "PR_SET_CHILD_SUBREAPER",
    "PR_SET_DUMPABLE",
    "PR_SET_KEEPCAPS",
    "PR_SET_SECUREBITS",
    "map_user",
    "prctl",
    "remove_shared_memory",
    "same_open_file",
    "set_capability",
    "setns",
    "unshare",
]

# linux/sched.h; os has them from Python 3.12 on.
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWUSER, CLONE_NEWNET = 0x0002_0000, 0x0400_0000, 0x1000_0000, 0x4000_0000

# linux/prctl.h
PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_SECUREBITS, PR_SET_CHILD_SUBREAPER = 4, 8, 28, 36
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 47, 2

_CAP_VERSION_3 = 0x2008_0522  # linux/capability.h
_IPC_RMID = 0  # linux/ipc.h
KCMP = {"x86_64": 312, "aarch64": 272}.get(platform.machine())
"""The number of kcmp(2), for which the C library has no function; None on other machines."""

_KCMP_FILE = 0  # linux/kcmp.h

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
_LIBC.syscall.restype = ctypes.c_long


def unshare(flags: int) -> None:
    """Move the calling thread into new namespaces, of the kinds in `flags`."""
    _check(_LIBC.unshare(flags), "unshare")


def setns(handle: int, kind: int) -> None:
    """Move the calling thread into the namespace of an open file, which has to be of this kind."""
    _check(_LIBC.setns(handle, kind), "setns")


def map_user(inside: int, user: int, group: int) -> None:
    """Give the process's new user namespace one user and group, `inside`: its owner's, `user` and `group`."""
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{inside} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{inside} {group} 1")


def prctl(option: int, *arguments: int) -> None:
    """Set an attribute of the calling thread or process; see prctl(2)."""
    _check(_LIBC.prctl(option, *arguments, *[0] * (4 - len(arguments))), "prctl")


def set_capability(number: int) -> None:
    """Keep one capability below 32, effective, permitted and inheritable, and no other."""
    bit = 1 << number
    header = (ctypes.c_uint32 * 2)(_CAP_VERSION_3, 0)
    # Effective, permitted and inheritable, for capabilities 0–31 and then 32–63.
    data = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)
    _check(_LIBC.capset(header, data), "capset")


def remove_shared_memory(segment: int) -> None:
    """Remove a System V shared memory segment."""
    _check(_LIBC.shmctl(segment, _IPC_RMID, None), "shmctl")


def same_open_file(one: int, other: int) -> bool:
    """Whether two descriptors of this process are one open file; also true where the kernel does not say."""
    if KCMP is None:
        return True
    here = ctypes.c_ulong(os.getpid())
    numbers = (here, here, ctypes.c_ulong(_KCMP_FILE), ctypes.c_ulong(one), ctypes.c_ulong(other))
    return bool(_LIBC.syscall(ctypes.c_long(KCMP), *numbers) <= 0)  # 1 to 3: different; -1: not to be asked


def _check(result: int, call: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
