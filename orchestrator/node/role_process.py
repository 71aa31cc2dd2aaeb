"""The process of one role: its code, with a `ctx` that works through the agent.

Started by `orchestrator.node.isolated`, in the node's namespaces.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import socket
import threading
from concurrent.futures import Future
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from orchestrator.node import dataplane, forked
from orchestrator.node.channel import ChannelError, Decoder, encode
from orchestrator.node.context import Context, RoleError
from orchestrator.node.program import Program
from orchestrator.node.roles import Outcome, failed
from orchestrator.node.stopped import RoleStopped
from orchestrator.protocol import Frame
from orchestrator.protocol import encode as encode_frame
from orchestrator.protocol.messages import ChangeLinks, TimelineChange

if TYPE_CHECKING:
    from orchestrator.node.dataplane import Dataplane

READ_BYTES = 256 * 1024


class AgentWire:
    """The agent's interface for contexts, over the connection to it."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._sending = threading.Lock()
        self._numbers = count(1)
        self._waits: dict[int, Future[Any]] = {}
        self._decoder = Decoder()

    def first(self) -> dict[str, Any]:
        """What the role is started with."""
        while data := self._channel.recv(READ_BYTES):
            for _kind, values in self._decoder.feed(data):
                start: dict[str, Any] = values[0]
                return start
        raise ChannelError("the agent has closed the connection")

    def listen(self) -> None:
        """Pass on answers until the agent ends the connection, and this process with it."""
        with suppress(OSError, ChannelError):
            while data := self._channel.recv(READ_BYTES):
                for kind, values in self._decoder.feed(data):
                    self._settle(kind, values)
        os.kill(os.getpid(), signal.SIGTERM)

    def send(self, kind: str, *values: Any) -> None:
        """Send a message; waits while the agent's queue is full.

        Raises:
            RoleStopped: The agent has ended.
        """
        data = encode(kind, *values)
        try:
            with self._sending:
                self._channel.sendall(data)
        except OSError as error:
            raise RoleStopped(f"the agent has ended: {error}") from None

    def report(self, node: int, row: dict[str, Any]) -> None:
        """Send a row."""
        self.send("report", row)

    def log(self, node: int, level: str, text: str) -> None:
        """Send a line of the role's log."""
        self.send("log", level, text)

    def progress(self, node: int, done: float, total: float) -> None:
        """Say how far the role is."""
        self.send("progress", done, total)

    def publish(self, node: int, key: str, value: Any) -> None:
        """Make a value known."""
        self.send("publish", key, value)

    def barrier(self, node: int, name: str) -> Future[None]:
        """Enter a barrier."""
        return self._ask("barrier", name)

    def lookup(self, node: int, key: str) -> Future[Any]:
        """Ask for a value."""
        return self._ask("lookup", key)

    def change_links(self, node: int, change: TimelineChange) -> Future[None]:
        """Ask for a change of links."""
        return self._ask("change_links", encode_frame(Frame(ChangeLinks("run", node, 1, change))))

    def _ask(self, kind: str, value: Any) -> Future[Any]:
        future: Future[Any] = Future()
        number = next(self._numbers)
        self._waits[number] = future
        self.send(kind, number, value)
        return future

    def _settle(self, kind: str, values: list[Any]) -> None:
        future = self._waits.pop(values[0], None)
        if future is None or not future.set_running_or_notify_cancel():
            return
        if kind == "done":
            future.set_result(values[1])
        else:
            future.set_exception(RoleError(values[1], id=values[2] or None))


def main(channel: int) -> None:
    """Run the role that the agent names at the other end of the connection."""
    os.set_inheritable(channel, False)
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the agent decides
    forked.install()
    process = os.getpid()
    wire = AgentWire(socket.socket(fileno=channel))
    start = wire.first()
    threading.Thread(target=wire.listen, name="agent", daemon=True).start()
    outcome = _attempt(wire, start, process)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with suppress(RoleStopped):
        wire.send("ended", outcome.ok, outcome.error, outcome.traceback)


def _attempt(wire: AgentWire, start: dict[str, Any], process: int) -> Outcome:
    program = Program.unpacked(start["run"], Path(start["folder"]), start["entry"])
    try:
        with dataplane.attach() as attached:
            context = _context(wire, start, attached)
            try:
                _call(program, context)
            except BaseException as error:
                _leave_if_forked(process, error)
                raise
            _leave_if_forked(process, None)
            context.end()
        return Outcome(True)
    except (RoleStopped, asyncio.CancelledError) as error:
        return Outcome(False, str(error) or "stopped")
    except BaseException as error:  # a role is foreign code: whatever it raises is its result
        if isinstance(error, SystemExit) and error.code in (None, 0):
            return Outcome(True)
        return failed(error, program.folder)


def _context(wire: AgentWire, start: dict[str, Any], attached: Dataplane) -> Context:
    return Context(
        dataplane=attached,
        node=start["node"],
        role=start["role"],
        params=start["params"],
        seed=start["seed"],
        roles={role: tuple(nodes) for role, nodes in start["roles"].items()},
        names=start["names"],
        addresses=start["addresses"],
        addresses6=start["addresses6"],
        wire=wire,
    )


def _call(program: Program, context: Context) -> None:
    result = program.role(context.role)(context)
    if inspect.isawaitable(result):
        asyncio.run(_await(result))


async def _await(awaitable: Any) -> None:
    await awaitable


def _leave_if_forked(process: int, error: BaseException | None) -> None:
    if os.getpid() != process:
        forked.leave(error)


def _stop(_number: int, _frame: object) -> NoReturn:
    raise RoleStopped("stopped")
