"""Stop, start, pause and resume nodes of this process while it runs, as the lab's file of node states says.

A thread waits at a unix socket in the lab's run folder, which only the lab's owner can open. Whoever connects
has the file read again, and gets one line of JSON when the nodes are as it says: `{"error": ""}`, or why they
are not. The host process alone has this: in a container the engine stops and pauses the one node.
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
    from orchestrator.node.options import Options

_logger = log.get(__name__)

_ANSWER_S = 1.0
"""How long a client may take to read its answer."""


class NodeStates:
    """Keeps the nodes of a native lab's process as the file says.

    Args:
        given: What the process was started with; it has a directory.
        nodes: The nodes.
    """

    def __init__(self, given: Options, nodes: Nodes) -> None:
        assert given.directory is not None, "only a native lab's process has node states"
        self._directory = given.directory
        self._part = given.part
        self._configs = dict(zip(given.numbers, given.configs, strict=True))
        self._nodes = nodes

    def apply(self) -> None:
        """Close, open, pause and resume nodes as the file says.

        Raises:
            nextmini_py.NextminiError: One could not be opened.
        """
        with self._nodes.change():
            self._apply()

    def _apply(self) -> None:
        states = node_states.read(self._directory / "run")
        missing = [number for number in self._configs if number not in self._nodes]
        for number in self._nodes.ids():
            if states.get(number) == "stopped":
                self._nodes.close_node(number)
                _logger.info("node stopped", node=number)
        opened = [number for number in missing if states.get(number) != "stopped"]
        if opened:
            self._nodes.open([self._configs[number] for number in opened], opened)
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
