"""Run the program of `probes` in nodes, and commands of the user."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.deploy.backends import host_for
from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.node_states import require_running
from orchestrator.deploy.state import LabState, NodeNote
from orchestrator.errors import RunFailed
from orchestrator.lab.commands import Completed, run_in_node
from orchestrator.lab.find import require_inside

__all__ = ["Prober"]

_PROGRAM = Path(__file__).with_name("probes.py")
_PARALLEL = 16
"""Nodes in which the program runs at a time."""

_READY_S = 10.0
"""How long a receiver may take until it listens: Python starts slowly on a machine that is busy."""

_END_S = 10.0
"""How long a receiver may take to end after its sender; it ends by itself when nothing arrives."""


class Prober:
    """Runs programs in the nodes of a lab.

    Args:
        directory: The lab.
        state: Its note.
    """

    def __init__(self, directory: LabDirectory, state: LabState) -> None:
        self._directory, self.state = directory, state
        self._host = host_for(state.backend)
        # A container has a Python of its own; a native node is in this machine's files.
        self._python = "python3" if state.backend == "docker" else sys.executable
        self._source = _PROGRAM.read_bytes()
        self._places = asyncio.Semaphore(_PARALLEL)

    def node(self, number: int) -> NodeNote:
        """The note of a node."""
        return self.state.node(number)

    def addresses(self, nodes: Sequence[int]) -> list[tuple[int, str]]:
        """Nodes with their addresses, as the program takes them."""
        return [(number, self.node(number).address) for number in nodes]

    async def run(self, node: int, argv: Sequence[str]) -> Completed:
        """Run a command of the user in a node.

        Raises:
            UsageError: The node is external, stopped or paused.
        """
        self._require(node)
        async with self._places:
            return await run_in_node(self._host, self._directory, self.state, node, argv)

    async def probe(self, node: int, kind: str, **options: Any) -> Mapping[str, Any]:
        """Run the program in a node; return what it saw.

        Raises:
            UsageError: The node is external, stopped or paused.
            RunFailed: The program ended with an error.
        """
        self._require(node)
        async with self._places:
            done = await run_in_node(
                self._host, self._directory, self.state, node, self._words(kind, options), stdin=self._source
            )
        return _answer(node, done, done.stdout.splitlines(), done.stderr.splitlines())

    async def measure(
        self, source: int, target: int, kind: str, sender: Mapping[str, Any], receiver: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Run the receiver in one node and then the sender in another; return what the receiver saw.

        Raises:
            UsageError: A node is external, stopped or paused.
            RunFailed: A side ended with an error, or did not in time.
        """
        self._require(source)
        self._require(target)
        # Above the ports that Linux gives to connections, and below none.
        port = 61_001 + secrets.randbelow(4_000)
        listening, out, err = asyncio.Event(), list[str](), list[str]()

        def on_line(_node: int, stream: str, line: str) -> None:
            if line == "ready":
                listening.set()
            else:
                (out if stream == "stdout" else err).append(line)

        words = self._words(f"receive_{kind}", {"port": port, **receiver})
        receiving = asyncio.create_task(self._receive(target, words, on_line))
        try:
            await self._until_listening(receiving, listening, target)
            if not receiving.done():
                address = self.node(target).address
                await self.probe(source, f"send_{kind}", address=address, port=port, **sender)
            async with asyncio.timeout(_END_S):
                return _answer(target, await receiving, out, err)
        except TimeoutError:
            raise RunFailed(f"the receiver in node {target} did not end in time", id="test.probe") from None
        finally:
            receiving.cancel()
            await asyncio.wait({receiving})

    async def _receive(
        self, node: int, words: Sequence[str], on_line: Callable[[int, Any, str], None]
    ) -> Completed:
        return await run_in_node(
            self._host, self._directory, self.state, node, words, stdin=self._source, on_line=on_line
        )

    async def _until_listening(
        self, receiving: asyncio.Task[Completed], listening: asyncio.Event, node: int
    ) -> None:
        ready = asyncio.create_task(listening.wait())
        try:
            await asyncio.wait({receiving, ready}, timeout=_READY_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        if not listening.is_set() and not receiving.done():
            raise RunFailed(
                f"the receiver in node {node} was not ready within {_READY_S:g} s", id="test.probe"
            )

    def _words(self, kind: str, options: Mapping[str, Any]) -> list[str]:
        return [self._python, "-I", "-S", "-", kind, json.dumps(options)]

    def _require(self, node: int) -> None:
        require_inside(self.state, [node])
        require_running(self._directory, [node])


def _answer(node: int, done: Completed, out: Sequence[str], err: Sequence[str]) -> Mapping[str, Any]:
    """Return what the program printed last.

    Raises:
        RunFailed: It ended with an error.
    """
    if done.exit_code or not out:
        said = next((line for line in reversed(err) if line.strip()), "it printed nothing")
        raise RunFailed(f"the measurement in node {node} ended with an error: {said}", id="test.probe")
    found: Mapping[str, Any] = json.loads(out[-1])
    return found
