"""A real controller with Postgres, and settings files for the nodes of a line."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from orchestrator.protocol import node_token

ROOT = Path(__file__).parents[2]
NODE_KEY = "node-key"


class RealLab:
    """A controller process for a lab; it may be killed and started again on the same port.

    Args:
        folder: For its files.
        database: How the controller reaches Postgres, as in its file.
        links: The lab's links; their ends are its nodes.
        rate_bps: What each link carries from its first end to its second.
    """

    def __init__(
        self,
        folder: Path,
        database: Mapping[str, str | int],
        links: Iterable[tuple[int, int]],
        rate_bps: int | None = None,
    ) -> None:
        self.rate_bps = rate_bps
        self.folder = folder
        self.links = list(links)
        self.nodes = sorted({node for link in self.links for node in link})
        self.name = f"peers-{folder.name}"[:60]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._file = folder / "controller.toml"
        self._log = folder / "controller.log"
        self._file.write_text(self._controller(database))
        self._process: subprocess.Popen[bytes] | None = None

    def settings(self, node: int, extra: str = "") -> Path:
        """Write the settings file of a node."""
        path = self.folder / f"node-{node}.toml"
        token = node_token(NODE_KEY, node)
        path.write_text(
            f'node_id = {node}\nname = "n{node}"\nlab = "{self.name}"\nseed = 7\n'
            f'controller_addr = "ws://127.0.0.1:{self.port}/control"\ncontroller_token = "{token}"\n'
            f"controller_connect_timeout_ms = 20000\n{extra}"
        )
        return path

    def start(self) -> None:
        """Start the controller and return when it listens."""
        command = [sys.executable, "-m", "orchestrator.controller", str(self._file)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            if self._process.poll() is not None:
                break
            time.sleep(0.02)  # the only way to see a port open; bounded above
        raise AssertionError(f"the controller did not start:\n{self._log.read_text()[-3000:]}")

    def kill(self) -> None:
        """End the controller as a crash would."""
        assert self._process is not None, "kill comes after start"
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def program(self, *arguments: str | os.PathLike[str]) -> subprocess.Popen[str]:
        """Start a Python program with its output on a pipe."""
        command = [sys.executable, *(os.fspath(argument) for argument in arguments)]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _controller(self, database: Mapping[str, str | int]) -> str:
        lines = [
            f'lab = "{self.name}"',
            f'node_key = "{NODE_KEY}"',
            'operator_token = "operator-token"',
            'link_secret = "link-secret"',
            f"seed = 7\nport = {self.port}\n",
            "[db]",
            *(f"{key} = {value!r}" for key, value in database.items()),
            f"\n[topology]\nn_nodes = {len(self.nodes)}\n",
        ]
        lines += [f'[[nodes]]\nnode_id = {node}\nname = "n{node}"\nexternal = true' for node in self.nodes]
        spec = "" if self.rate_bps is None else f"forward.rate_bps = {self.rate_bps}\n"
        lines += [f"[[links]]\na = {a}\nb = {b}\n{spec}" for a, b in self.links]
        return "\n".join(lines) + "\n"
