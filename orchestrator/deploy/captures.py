"""Connect to the process that carries a node, for a capture.

Each such process has a unix socket (`nm_driver::capture::server`): natively in the lab's run folder, in a
container beside its ready file, where a small program in the container passes the bytes on.
"""

from __future__ import annotations

import socket
import subprocess
import tempfile
from contextlib import suppress

from orchestrator.capture import Source
from orchestrator.deploy import node_states
from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.namespaces import require_table
from orchestrator.deploy.node_command import docker_command
from orchestrator.deploy.state import LabState
from orchestrator.errors import NmError
from orchestrator.node_states import CAPTURES, control_socket

__all__ = ["connect"]

IN_CONTAINER = "/run/nm/captures.sock"
"""Where a container's process listens: beside the ready file that the image names."""

CONNECT_S = 5.0
END_S = 5.0

_RELAY = """
import os, socket, sys, threading
near = socket.socket(socket.AF_UNIX)
near.connect(sys.argv[1])
def forward():
    while data := os.read(0, 65536):
        near.sendall(data)
    near.shutdown(socket.SHUT_WR)
threading.Thread(target=forward, daemon=True).start()
while data := near.recv(1 << 18):
    view = memoryview(data)
    while view:
        view = view[os.write(1, view):]
"""
"""Passes bytes between standard input and output and a unix socket, until the socket's end."""


def connect(directory: LabDirectory, state: LabState, node: int) -> Source:
    """Connect to the process of a node.

    Raises:
        UsageError: The node is stopped or paused by request.
        NmError: Its process does not run, or does not listen.
    """
    node_states.require_running(directory, [node])
    if state.backend == "docker":
        return _through_container(state, node)
    part = next((role for role, nodes in state.hosts.items() if node in nodes), "host")
    require_table(directory, part)  # an error in words where the process has ended
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(CONNECT_S)
        with control_socket(directory.run, part, CAPTURES) as path:
            connection.connect(path)
    except OSError as error:
        connection.close()
        raise NmError(
            f"the process {part} of lab {directory.name} takes no captures: {error}",
            id="capture.no-socket",
            found=str(error),
            hint=f"`nm logs {part}` may say why",
            exit_code=5,
        ) from error
    return Source(node, connection)


def _through_container(state: LabState, node: int) -> Source:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    words = ["python3", "-I", "-S", "-c", _RELAY, IN_CONTAINER]
    errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the source
    with theirs:
        process = subprocess.Popen(
            docker_command(state, node, words, stdin=True),
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=errors,
            start_new_session=True,  # Ctrl-C is ours: the end of the capture still has to pass
        )

    def trouble() -> str:
        errors.seek(0)
        lines = errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def release() -> None:
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_S)
        if process.returncode is None:
            process.kill()
            process.wait()
        errors.close()

    return Source(node, ours, trouble=trouble, release=release)
