"""Namespaces, for a program that runs many nodes in one process.

A node of its own needs none of this. The functions act on the calling thread or process at once and are not
undone; they need the permissions of the system calls behind them.
"""

from __future__ import annotations

import os

from nextmini_py import _native

__all__ = ["create_namespace", "enter_namespace", "enter_user_namespace", "unshare_mounts"]


def create_namespace() -> int:
    """Make an empty network namespace with its loopback device up.

    Returns:
        An open file that names it, for `Dataplane(..., namespace_fd=...)` and `enter_namespace`. The caller
        closes it; the namespace lives as long as something uses it.

    Raises:
        TunDenied: The process may not make namespaces.
    """
    return _native.create_namespace()


def enter_namespace(namespace_fd: int) -> None:
    """Move the calling thread, and what it starts from now on, into a network namespace."""
    _native.enter_namespace(namespace_fd)


def enter_user_namespace() -> None:
    """Move this process into a user namespace in which it is root.

    An ordinary user may make network namespaces there. The kernel refuses a process that has more than one
    thread, so this has to come first.
    """
    _native.enter_user_namespace()


def unshare_mounts(hosts_file: str | os.PathLike[str]) -> None:
    """Give the calling thread, and what it starts from now on, an `/etc/hosts` of its own.

    Args:
        hosts_file: The file that is seen there.
    """
    _native.unshare_mounts(hosts_file)
