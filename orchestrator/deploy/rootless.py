"""Test whether an ordinary user can run a native lab on this machine, by trying it in a child process.

Kernel settings only tell what might be forbidden; security modules, containers and limits matter as well. So
a child process performs the steps of a host process: it becomes root in a new user namespace, and creates
network and mount namespaces and a TUN device there. All of it is gone when the child ends, milliseconds
later. If a step fails, the settings that usually forbid it are read for the hint.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from orchestrator import syscalls

__all__ = ["FORBIDDING", "Refusal", "attempt", "forbidding_setting"]

FORBIDDING = (
    ("user.max_user_namespaces", 0, 15_000),
    ("kernel.unprivileged_userns_clone", 0, 1),  # Debian's own, on older kernels
    ("kernel.apparmor_restrict_unprivileged_userns", 1, 0),  # Ubuntu's
)
"""Settings that forbid user namespaces, with the forbidding and an allowing value."""

_TUNSETIFF = 0x4004_54CA
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x1000, 0x4000

_LIMIT_S = 10.0


@dataclass(frozen=True)
class Refusal:
    """A step that the kernel refused.

    Attributes:
        step: What was tried: `user namespace`, `identities`, `network namespace` or `tun device`.
        number: The kernel's reason, from `errno`.
    """

    step: str
    number: int

    def __str__(self) -> str:
        return f"{self.step}: {os.strerror(self.number)}"


def attempt(tun: Path | None) -> Refusal | None:
    """Try in a child what a host process without root does; None if all of it works.

    Args:
        tun: The TUN clone device to try; None leaves that step out.
    """
    reader, writer = os.pipe()
    try:
        child = subprocess.Popen(
            ["true"],  # never run: the child ends before
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=_steps(tun, writer),
        )
    except OSError as error:
        os.close(reader)
        return Refusal("a process", error.errno or errno.EAGAIN)
    finally:
        os.close(writer)
    with child, os.fdopen(reader, encoding="utf-8") as said:
        try:
            child.wait(_LIMIT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            return Refusal("user namespace", errno.ETIMEDOUT)
        step, _, number = said.read().partition("|")
    return Refusal(step, int(number)) if step else None


def forbidding_setting(root: Path = Path("/proc/sys")) -> tuple[str, str] | None:
    """The first setting that forbids user namespaces, as `name is value`, and the command that lifts it."""
    for setting, forbidding, allowing in FORBIDDING:
        try:
            value = int((root / setting.replace(".", "/")).read_text())
        except (OSError, ValueError):
            continue
        if value == forbidding:
            return f"{setting} is {value}", f"sudo sysctl -w {setting}={allowing}"
    return None


def _steps(tun: Path | None, writer: int) -> Callable[[], None]:
    """Return the function that the child runs; everything that it needs is imported here."""
    user, group = os.geteuid(), os.getegid()
    networks = syscalls.CLONE_NEWNET | syscalls.CLONE_NEWNS | syscalls.CLONE_NEWUTS
    request = struct.pack("16sH22x", b"nm-probe", _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR)

    def device() -> None:
        if tun is None:
            return
        handle = os.open(tun, os.O_RDWR | os.O_CLOEXEC)
        fcntl.ioctl(handle, _TUNSETIFF, request)

    steps: tuple[tuple[str, Callable[[], None]], ...] = (
        ("user namespace", lambda: syscalls.unshare(syscalls.CLONE_NEWUSER)),
        ("identities", lambda: syscalls.map_user(0, user, group)),
        ("network namespace", lambda: syscalls.unshare(networks)),
        ("tun device", device),
    )

    def run() -> None:
        for name, step in steps:
            try:
                step()
            except OSError as error:
                os.write(writer, f"{name}|{error.errno}".encode())
                break
        os._exit(0)

    return run
