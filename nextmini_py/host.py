"""Namespaces, agent calls and per-run views, for a process that hosts nodes.

An ordinary program with one node needs none of this. The namespace functions act on the calling thread or
process at once and are not undone; they need the permissions of the system calls behind them.
"""

from __future__ import annotations

import os
import select

from nextmini_py import _native
from nextmini_py._dataplane import Dataplane, open_nodes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from nextmini_py._run import RunDataplane

__all__ = [
    "controller_token",
    "create_machine",
    "create_namespace",
    "enter_names",
    "enter_namespace",
    "enter_user_namespace",
    "open_nodes",
    "run_view",
    "serve_captures",
    "serve_programs",
    "set_paused",
    "unshare_mounts",
    "wait_for_agent_request",
]


def controller_token(dataplane: Dataplane) -> str:
    """What a node of this process proves itself to its controller with; it is secret, and its own."""
    return dataplane._node.controller_token


def create_namespace() -> int:
    """Make an empty network namespace with its loopback device up.

    Returns:
        An open file that names it, for `Dataplane(..., namespace_fd=...)` and `enter_namespace`. The caller
        closes it; the namespace lives as long as something uses it.

    Raises:
        TunDenied: The process may not make namespaces.
    """
    return _native.create_namespace()


def create_machine(
    hostname: str, settings: Sequence[tuple[str, str, bool]] = ()
) -> tuple[int, int, list[str]]:
    """Make a network namespace as `create_namespace` does, and a host name of its own beside it.

    Args:
        hostname: What `hostname` says inside, at most 64 bytes.
        settings: Kernel settings of the network namespace: each with its name, such as
            `net.ipv4.tcp_congestion_control`, its value, and whether nothing is made where the kernel refuses
            it.

    Returns:
        Open files that name the network namespace and the UTS namespace, and the refusals of settings that
        were not required, in words. The caller closes the files.

    Raises:
        TunDenied: The process may not make namespaces, or a required setting is refused.
    """
    return _native.create_machine(hostname, list(settings))


def enter_names(namespace_fd: int) -> None:
    """Move the calling thread, and what it starts from now on, into a UTS namespace."""
    _native.enter_names(namespace_fd)


def enter_namespace(namespace_fd: int) -> None:
    """Move the calling thread, and what it starts from now on, into a network namespace."""
    _native.enter_namespace(namespace_fd)


def enter_user_namespace() -> None:
    """Move this process into a user namespace in which it is root.

    An ordinary user may make network namespaces there. The kernel refuses a process that has more than one
    thread, so this has to come first.
    """
    _native.enter_user_namespace()


def run_view(dataplane: Dataplane) -> RunDataplane:
    """Return a handle of a node whose receivers, transfers and memberships can be ended together.

    It is a `Dataplane` with the same calls. Events that happened before it was made are dropped; its `close`
    ends what was opened through it, and leaves the node alone.

    Args:
        dataplane: The node's own handle.
    """
    from nextmini_py._run import RunDataplane  # a program that runs no roles starts without it

    return RunDataplane(dataplane)


def serve_captures(path: str | os.PathLike[str]) -> None:
    """Open a socket at which programs of this machine ask for packets of this process's nodes.

    Args:
        path: Where; a socket that an ended process has left is replaced.

    Raises:
        OSError: The path cannot be used.
    """
    _native.serve_captures(path)


def serve_programs(dataplane: Dataplane, namespace_fd: int | None = None, name: str | None = None) -> None:
    """Let programs in a node's network namespace attach to it; see `nextmini_py.attach`.

    Programs of this process's user and of root are accepted.

    Args:
        dataplane: The node's own handle.
        namespace_fd: An open file that names the namespace; None for that of the calling thread.
        name: The abstract name of the socket; the usual one unless given.

    Raises:
        StartError: The name is in use there.
    """
    dataplane._node.serve(name or _native.ATTACH_NAME, namespace_fd)


def set_paused(dataplane: Dataplane, paused: bool) -> None:
    """Pause a node of this process, or resume it.

    A paused node drops every packet that arrives, and its timers wait; its links stay up, and packets in
    their queues leave when it is resumed.

    Args:
        dataplane: The node's own handle.
        paused: Whether it shall be paused.
    """
    dataplane._node.set_paused(paused)


def unshare_mounts(hosts_file: str | os.PathLike[str]) -> None:
    """Give the calling thread, and what it starts from now on, an `/etc/hosts` of its own.

    Args:
        hosts_file: The file that is seen there.
    """
    _native.unshare_mounts(hosts_file)


def wait_for_agent_request() -> None:
    """Wait until the controller requests an agent for the nodes of this process.

    It returns at once when the request has arrived before. The handler of a signal ends the wait by raising.
    """
    waker = _native.Waker()
    _native.watch_agent_request(waker, 0)
    descriptors = select.poll()  # `select.select` knows no descriptor beyond 1,023
    descriptors.register(waker, select.POLLIN)
    while not _native.agent_requested():
        # A signal that arrives just before `poll` does not interrupt it; its handler runs a second later.
        descriptors.poll(1000)
        waker.take()
