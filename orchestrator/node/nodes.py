"""The nodes of this process: their namespaces, TUN devices and dataplanes.

In a container there is one node and the container's own network. Natively there may be a thousand: each
gets a network namespace, held only as an open file of this process, and the table of these files is
published so that `nm exec` finds its way in (`orchestrator.deploy.namespaces` reads it).
"""

from __future__ import annotations

import os
import resource
import sys
from contextlib import nullcontext, suppress

from orchestrator import log
from orchestrator.node import dataplane

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from orchestrator.node.dataplane import Dataplane

_logger = log.get(__name__)

_SO_NETNS_COOKIE = 71


class Node:
    """One node of this process.

    Attributes:
        id: Its number.
        dataplane: Its live handle.
        namespace: Its network namespace as an open file; None where the process's own network is the node's.
        names: Its UTS namespace, with its host name, likewise.
    """

    __slots__ = ("_paused", "dataplane", "id", "names", "namespace")

    def __init__(
        self, id: int, dataplane: Dataplane, namespace: int | None, names: int | None = None
    ) -> None:
        self.id = id
        self.dataplane = dataplane
        self.namespace = namespace
        self.names = names
        self._paused = False

    def set_paused(self, paused: bool) -> None:
        """Pause its packet processing, or resume it."""
        if paused != self._paused:
            dataplane.set_paused(self.dataplane, paused)
            self._paused = paused

    @property
    def inode(self) -> int | None:
        """What names the namespace under `/proc`; None where there is none of the node's own."""
        return None if self.namespace is None else os.fstat(self.namespace).st_ino

    def enter(self) -> None:
        """Move the calling thread into the node's network, under its host name."""
        if self.namespace is not None:
            dataplane.enter_namespace(self.namespace)
        if self.names is not None:
            dataplane.enter_names(self.names)


class Nodes:
    """All nodes of this process; a failure while they are opened closes those that were.

    Attributes:
        change: Is entered while nodes are closed or opened by request, while roles may run.
        outside: What is the outside of each node with an uplink; see `orchestrator.node.uplinks`.
        changed: Called when nodes were added to this process or removed from it, from any thread.
    """

    def __init__(self) -> None:
        self.change: Callable[[], AbstractContextManager[None]] = nullcontext
        self.changed: Callable[[], None] = lambda: None
        self._nodes: dict[int, Node] = {}
        self._namespaces: dict[int, int] = {}
        self._names: dict[int, int] = {}
        self._cookies: dict[int, int] = {}
        self.outside: dict[int, dict[str, str | None]] = {}

    def __getitem__(self, number: int) -> Node:
        return self._nodes[number]

    def __contains__(self, number: object) -> bool:
        return number in self._nodes

    def ids(self) -> list[int]:
        """The numbers of the nodes, sorted."""
        return sorted(self._nodes)

    def tokens(self) -> dict[int, str]:
        """What each node proves itself to the controller with."""
        return {node.id: dataplane.controller_token(node.dataplane) for node in self._nodes.values()}

    @property
    def numbers(self) -> list[int]:
        """The nodes for which there are namespaces, whether they are open or not."""
        return sorted(self._namespaces)

    def namespace(self, number: int) -> int:
        """The open file that names a node's network namespace."""
        return self._namespaces[number]

    @property
    def namespaces(self) -> list[int]:
        """The open files that name the nodes' namespaces."""
        return [*self._namespaces.values(), *self._names.values()]

    @property
    def offload(self) -> str:
        """Whether super-packets pass the nodes' TUN devices, in words; each way of theirs once."""
        return ", ".join(sorted({str(node.dataplane.offload) for node in self._nodes.values()}))

    def make_namespaces(self, numbers: Sequence[int], machines: Path) -> list[str]:
        """Make namespaces for each of these nodes, in the order in which they will be opened.

        Args:
            numbers: The nodes.
            machines: The file that has their host names and kernel settings by number; `orchestrator.render`
                writes it.

        Returns:
            The optional settings that the kernel refused, in words, once each.

        Raises:
            nextmini_py.NextminiError: It refuses the namespaces, or a setting of the topology file.
        """
        import json
        from concurrent.futures import ThreadPoolExecutor

        stated = json.loads(machines.read_text())
        refused: dict[str, None] = {}
        for number in numbers:
            machine = stated[str(number)]
            settings = [
                (key, value, False) for key, value in machine["buffers"].items() if _raises(key, value)
            ]
            settings += [(key, value, True) for key, value in machine["sysctls"].items()]
            self._namespaces[number], self._names[number], failed = dataplane.create_machine(
                machine["hostname"], settings
            )
            refused |= dict.fromkeys(failed)
            if "uplink" in machine:
                self.outside[number] = machine["uplink"]
        with ThreadPoolExecutor(1, thread_name_prefix="cookies") as thread:  # it leaves our own network
            thread.submit(self._read_cookies).result()
        return list(refused)

    def open(self, configs: Sequence[str], numbers: Sequence[int] = ()) -> None:
        """Open the dataplanes of nodes by their TOML files.

        Args:
            configs: The files.
            numbers: The nodes, in the same order, where namespaces were made for them.

        Raises:
            nextmini_py.NextminiError: One could not be opened; the others are closed again.
        """
        namespaces: list[int | None] = [self._namespaces[number] for number in numbers]
        namespaces = namespaces or [None] * len(configs)
        dataplanes = dataplane.open_nodes(list(zip(configs, namespaces, strict=True)))
        for opened, namespace in zip(dataplanes, namespaces, strict=True):
            number = opened.node_id
            self._nodes[number] = Node(number, opened, namespace, self._names.get(number))
            _serve_programs(opened, namespace)

    def close_node(self, number: int) -> None:
        """Close the dataplane of one node; its namespaces stay."""
        self._nodes.pop(number).dataplane.close()

    def remove(self, number: int) -> None:
        """Close a node, and release its namespaces; they end with the last program in them."""
        if number in self._nodes:
            self.close_node(number)
        os.close(self._namespaces.pop(number))
        os.close(self._names.pop(number))
        self._cookies.pop(number, None)

    def close(self) -> None:
        """Close all dataplanes, then release the namespaces."""
        for node in self._nodes.values():
            node.dataplane.close()
        self._nodes.clear()
        for handle in self.namespaces:
            os.close(handle)
        self._namespaces.clear()
        self._names.clear()

    def publish(self, path: Path, *, user_namespace: bool, mount_namespace: bool) -> None:
        """Write the table of namespaces atomically, for commands in nodes."""
        import json

        table = {
            "pid": os.getpid(),
            "started": _start_time(),
            "user_namespace": user_namespace,
            "mount_namespace": mount_namespace,
            "offload": self.offload,
            "nodes": {
                str(number): {
                    "fd": handle,
                    "names": self._names[number],
                    "inode": os.fstat(handle).st_ino,
                    "cookie": self._cookies.get(number, 0),
                }
                for number, handle in sorted(self._namespaces.items())
            },
        }
        temporary = path.with_suffix(".part")
        # A user who could write it would choose where this user's commands run.
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(json.dumps(table))
        temporary.replace(path)

    def _read_cookies(self) -> None:
        """Return the network namespace cookie of each node; see `orchestrator.deploy.netns_cookies`."""
        import socket

        for number, handle in self._namespaces.items():
            dataplane.enter_namespace(handle)
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
                raw = probe.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
                self._cookies[number] = int.from_bytes(raw, sys.byteorder)


def _serve_programs(opened: Dataplane, namespace: int | None) -> None:
    """Let programs attach; a node whose socket's name was taken meanwhile carries packets all the same."""
    try:
        dataplane.serve_programs(opened, namespace)
    except Exception as error:  # the class is in a package that a container's node need not load
        if not hasattr(error, "id"):
            raise
        _logger.warning("programs cannot attach to a node", node=opened.node_id, why=str(error))


def _raises(setting: str, value: str) -> bool:
    """Whether a TCP buffer's new bound is above the machine's, with which a namespace begins."""
    with suppress(OSError, ValueError, IndexError):
        machine = _contents("/proc/sys/" + setting.replace(".", "/"))
        return int(value.split()[-1]) > int(machine.split()[-1])
    return True


def raise_file_limit() -> None:
    """Allow as many open files as the machine lets us: a node holds a handful."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _start_time() -> int:
    """When this process started, in clock ticks since boot, which identifies it with its number.

    Read here and not by `procfs`, whose imports take 15 ms of the start of a container's node.
    """
    return int(_contents("/proc/self/stat").rpartition(")")[2].split()[19])


def _contents(path: str) -> str:
    with open(path) as file:  # noqa: PTH123  # a container's node starts without pathlib
        return file.read()
