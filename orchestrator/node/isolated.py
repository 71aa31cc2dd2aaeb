"""Run a role in a process of its own, and do for it what only the agent can.

The thread of the role starts the process, which has the node's namespaces from it, and carries out what the
role's `ctx` asks for, until the process ends. The role's dataplane is the process's own: it is attached to
the node (`nextmini_py.attach`). So the CPU that a role uses, its forks and its crashes concern no other role
and no node.

Nothing that the process sends is trusted, and nothing here waits for it: what it does not read is kept up to
a limit.
"""

from __future__ import annotations

import codecs
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any, TextIO

from orchestrator.node.channel import MAX_MESSAGE, ChannelError, Decoder, encode
from orchestrator.node.context import Context, Wire
from orchestrator.node.program import Program, RoleFunction
from orchestrator.node.stopped import RoleFailed
from orchestrator.protocol import decode_frames
from orchestrator.protocol.messages import ChangeLinks, PrepareRun
from orchestrator.values import plain_value

__all__ = ["IsolatedProgram"]

SLICE_S = 0.1
"""How long the thread waits at once: an exception for it appears between two waits."""

STOP_S = 1.0
"""How long the process may take to end when it was asked to, or when its role has ended."""

READ_BYTES = 256 * 1024
MAX_WAITS = 1024
"""Waits of one role at a time."""


class IsolatedProgram:
    """Finds the functions of roles that run in processes of their own.

    Args:
        program: The scenario's code.
        wire: The agent's interface for contexts.
        prepared: The run.
        addresses: The nodes' addresses.
        addresses6: Their IPv6 addresses, if they have any.
    """

    def __init__(
        self,
        program: Program,
        wire: Wire,
        prepared: PrepareRun,
        addresses: Mapping[int, str],
        addresses6: Mapping[int, str],
    ) -> None:
        self._program = program
        self._wire = wire
        self._prepared = prepared
        self._addresses = addresses
        self._addresses6 = addresses6

    @property
    def folder(self) -> Path:
        """Where the scenario's files are."""
        return self._program.folder

    def role(self, name: str) -> RoleFunction:
        """What runs a role in a process, and returns when it has ended.

        Raises:
            ProgramError: There is no space on disk for the scenario's files.
        """
        self._program.unpack()
        prepared = self._prepared
        start = {
            "run": prepared.run,
            "folder": str(self._program.folder),
            "entry": self._program.entry,
            "role": name,
            "params": dict(prepared.params),
            "seed": prepared.seed,
            "roles": {role: list(nodes) for role, nodes in prepared.roles.items()},
            "names": dict(prepared.names),
            "addresses": dict(self._addresses),
            "addresses6": dict(self._addresses6),
        }
        return lambda context: _Process(context, self._wire, start).run()


class _Process:
    """One role's process, seen from the role's thread."""

    def __init__(self, context: Context, wire: Wire, start: dict[str, Any]) -> None:
        self._context = context
        self._wire = wire
        self._start = {**start, "node": context.node}
        self._decoder = Decoder()
        self._outgoing = bytearray()
        self._answers: SimpleQueue[bytes] = SimpleQueue()
        self._waiting = 0
        self._count = threading.Lock()  # answers come from other threads
        self._ended: tuple[bool, str, str] | None = None

    def run(self) -> None:
        """Start the process and serve it until it ends.

        Raises:
            RoleFailed: The role failed, or its process ended before it.
        """
        with ExitStack() as stack:
            ours, theirs = (stack.enter_context(each) for each in socket.socketpair())
            self._wake_read, self._wake_write = (stack.enter_context(each) for each in socket.socketpair())
            for each in (ours, self._wake_read, self._wake_write):
                each.setblocking(False)
            process = stack.enter_context(_started(theirs.fileno()))
            stack.callback(_end, process)
            theirs.close()
            self._serve(process, ours)
            self._conclude(process)

    def _serve(self, process: subprocess.Popen[bytes], channel: socket.socket) -> None:
        ended = os.pidfd_open(process.pid)
        with selectors.DefaultSelector() as selector:
            try:
                selector.register(ended, selectors.EVENT_READ)
                selector.register(channel, selectors.EVENT_READ)
                selector.register(self._wake_read, selectors.EVENT_READ)
                streams = {process.stdout: _Printed(sys.stdout), process.stderr: _Printed(sys.stderr)}
                for stream in streams:
                    assert stream is not None, "both are pipes"
                    os.set_blocking(stream.fileno(), False)
                    selector.register(stream, selectors.EVENT_READ, streams[stream])
                self._outgoing += encode("start", self._start)
                give_up = None
                while process.poll() is None and (give_up is None or time.monotonic() < give_up):
                    self._turn(selector, channel)
                    if self._ended is not None and give_up is None:
                        give_up = time.monotonic() + STOP_S
                last = time.monotonic() + STOP_S  # a process that it left may print without end
                while self._turn(selector, channel, 0) and time.monotonic() < last:
                    pass  # what it had sent before it ended
            finally:
                os.close(ended)

    def _turn(
        self, selector: selectors.BaseSelector, channel: socket.socket, limit_s: float = SLICE_S
    ) -> bool:
        """Do what is possible now, after waiting for it; False if nothing was sent or received."""
        while not self._answers.empty():
            self._outgoing += self._answers.get()
        if channel in selector.get_map():
            more = selectors.EVENT_WRITE if self._outgoing else 0
            selector.modify(channel, selectors.EVENT_READ | more)
        moved = False
        for key, events in selector.select(limit_s):
            moved = moved or key.data is not None or key.fileobj is channel
            if key.fileobj is channel:
                self._use_channel(selector, channel, events)
            elif key.fileobj is self._wake_read:
                self._wake_read.recv(READ_BYTES)
            elif key.data is not None:
                _pass_on(selector, key)
        return moved

    def _use_channel(self, selector: selectors.BaseSelector, channel: socket.socket, events: int) -> None:
        with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            if events & selectors.EVENT_WRITE:
                del self._outgoing[: channel.send(self._outgoing[:READ_BYTES])]
        if not events & selectors.EVENT_READ:
            return
        try:
            data = channel.recv(READ_BYTES)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            selector.unregister(channel)
            return
        try:
            for kind, values in self._decoder.feed(data):
                self._carry_out(kind, values)
        except (ChannelError, TypeError, ValueError, KeyError, IndexError) as error:
            raise RoleFailed(f"the role's process sent what it must not: {error}") from error

    def _carry_out(self, kind: str, values: list[Any]) -> None:
        node = self._context.node
        if len(self._outgoing) > MAX_MESSAGE or self._waiting > MAX_WAITS:
            raise ValueError("it does not read its answers")
        match kind, values:
            case "report", [dict() as row]:
                row = {**plain_value(row, nan="null"), "node": node, "role": self._context.role}
                self._wire.report(node, row)
            case "log", [str() as level, str() as text]:
                self._context.log.put(level, text)
            case "progress", [int() | float() as done, int() | float() as total]:
                self._wire.progress(node, float(done), float(total))
            case "publish", [str() as key, value]:
                self._context.publish(key, value)
            case "barrier", [int() as number, str() as name]:
                self._answer(number, self._context.ask_barrier(name), f"barrier `{name[:60]}`")
            case "lookup", [int() as number, str() as key]:
                self._answer(number, self._context.ask_value(key), f"the value of `{key[:60]}`")
            case "change_links", [int() as number, bytes() as body]:
                message = decode_frames(body)[0].message
                if not isinstance(message, ChangeLinks):
                    raise ValueError("no change of links")
                asked = self._wire.change_links(node, message.change)
                self._answer(number, asked, f"a change of {message.change.where}")
            case "ended", [bool() as ok, str() as error, str() as traceback]:
                self._ended = (ok, error, traceback)
            case _:
                raise ValueError(f"the message `{kind[:60]}`")

    def _answer(self, number: int, future: Future[Any], what: str) -> None:
        with self._count:
            self._waiting += 1
        self._context.expect(future, what)
        future.add_done_callback(lambda done: self._answered(number, done))

    def _answered(self, number: int, future: Future[Any]) -> None:
        """Queue the answer; called by whichever thread has it."""
        with self._count:
            self._waiting -= 1
        self._context.forget(future)
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            self._answers.put(encode("done", number, future.result()))
        else:
            self._answers.put(encode("failed", number, str(error), str(getattr(error, "id", ""))))
        with suppress(OSError):  # full: it is awake; closed: the role has ended
            self._wake_write.send(b"\0")

    def _conclude(self, process: subprocess.Popen[bytes]) -> None:
        if self._ended is None:
            raise RoleFailed(_sudden_end(process.wait()))
        ok, error, traceback = self._ended
        if not ok:
            raise RoleFailed(error or "the role failed", traceback)


class _Printed:
    """What a process prints on one stream, as text; a character may come in two parts."""

    def __init__(self, to: TextIO) -> None:
        self._to = to
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, data: bytes) -> None:
        """Print data; none means that no more come."""
        if text := self._decoder.decode(data, final=not data):
            self._to.write(text)


def _started(channel: int) -> subprocess.Popen[bytes]:
    code = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        f"from orchestrator.node.role_process import main\nmain({channel})"
    )
    return subprocess.Popen(
        # A crash leaves a traceback in the role's log.
        [sys.executable, "-X", "faulthandler", "-c", code],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=(channel,),
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process, by force if it does not end when asked."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)


def _pass_on(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    """Print what the process printed, in the role's thread: it goes to the role's log."""
    stream: IO[bytes] = key.fileobj  # type: ignore[assignment]  # only the pipes have data
    printed: _Printed = key.data
    try:
        data = os.read(stream.fileno(), READ_BYTES)
    except BlockingIOError:
        return
    printed.feed(data)
    if not data:
        selector.unregister(stream)


def _sudden_end(code: int) -> str:
    if code < 0:
        with suppress(ValueError):
            return f"the role's process was ended by {signal.Signals(-code).name}"
        return f"the role's process was ended by signal {-code}"
    return f"the role's process exited with code {code} before the role had ended"
