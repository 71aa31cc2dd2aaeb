"""Add, remove, stop, start, pause and resume nodes of this process while it runs, as files of the lab say.

A thread waits at a unix socket in the lab's run folder, which only the lab's owner can open. Whoever connects
has the files read again, and gets one line of JSON when the nodes are as they say: `{"error": ""}`, or why
they are not. The host process alone has this: in a container the engine stops and pauses the one node.
"""

from __future__ import annotations

import json
import os
import socket
import threading

from orchestrator import log, node_states
from orchestrator.node.nodes import Nodes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.node.options import Options

_logger = log.get(__name__)

_ANSWER_S = 1.0
"""How long a client may take to read its answer."""


class NodeStates:
    """Keeps the nodes of a native lab's process as the files say.

    Args:
        given: What the process was started with; it has a directory.
        nodes: The nodes.
        publish: Writes the table of namespaces, after nodes were added or removed.
    """

    def __init__(self, given: Options, nodes: Nodes, publish: Callable[[], None] = lambda: None) -> None:
        assert given.directory is not None, "only a native lab's process has node states"
        self._directory = given.directory
        self._part = given.part
        self._numbers = given.numbers
        self._nodes = nodes
        self._publish = publish

    def apply(self) -> None:
        """Add, remove, close, open, pause and resume nodes as the files say.

        Raises:
            nextmini_py.NextminiError: One could not be made or opened.
        """
        before = self._nodes.numbers
        with self._nodes.change():
            try:
                self._add_and_remove()
                self._apply()
            finally:
                if self._nodes.numbers != before:
                    self._publish()
                    self._nodes.changed()

    def _add_and_remove(self) -> None:
        """Make namespaces of nodes that this process is to carry as well, and remove those of others."""
        carried = node_states.carried(self._directory, self._part)
        wanted = self._numbers if carried is None else carried
        for number in set(self._nodes.numbers).difference(wanted):
            self._nodes.remove(number)
            _logger.info("node removed", node=number)
        added = sorted(set(wanted).difference(self._nodes.numbers))
        if added:
            machines = self._directory / "run" / "machines.json"
            for refusal in self._nodes.make_namespaces(added, machines):
                _logger.warning("TCP buffers stay as the kernel has them", why=refusal)
            _logger.info("nodes added", count=len(added), first=added[0])

    def _apply(self) -> None:
        states = node_states.read(self._directory / "run")
        missing = [number for number in self._nodes.numbers if number not in self._nodes]
        for number in self._nodes.ids():
            if states.get(number) == "stopped":
                self._nodes.close_node(number)
                _logger.info("node stopped", node=number)
        opened = [number for number in missing if states.get(number) != "stopped"]
        if opened:
            configs = [str(self._directory / "run" / f"node-{number}.toml") for number in opened]
            self._nodes.open(configs, opened)
        for number in self._nodes.ids():
            self._nodes[number].set_paused(states.get(number) == "paused")

    def serve(self) -> None:
        """Wait for clients in a thread of its own, for as long as this process runs."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with node_states.control_socket(self._directory / "run", self._part) as path:
            if os.path.lexists(path):
                os.unlink(path)  # noqa: PTH108  # of an earlier process
            listener.bind(path)
            os.chmod(path, 0o600)  # noqa: PTH101  # before anyone can connect
            listener.listen()
        threading.Thread(target=self._accept, args=(listener,), name="node-states", daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                _logger.exception("nodes of this process cannot be stopped or started any more")
                return
            with client:
                self._serve_client(client)

    def _serve_client(self, client: socket.socket) -> None:
        error, before = "", self._nodes.ids()
        try:
            self.apply()
            started = [number for number in self._nodes.ids() if number not in before]
            if started:
                _logger.info("nodes started", count=len(started), first=started[0])
        except Exception as failure:  # the next request tries again
            _logger.exception("nodes are not as they shall be")
            error = str(failure) or type(failure).__name__
        try:
            client.settimeout(_ANSWER_S)
            client.sendall(json.dumps({"error": error}).encode() + b"\n")
        except OSError:
            _logger.debug("a client did not wait for its answer")
