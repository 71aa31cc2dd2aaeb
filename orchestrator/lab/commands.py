"""Run commands inside nodes: one or many at once, output collected or streamed."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.state import LabState
from orchestrator.errors import NmError, UsageError
from orchestrator.lab.cleanup import run_shielded

Stream = Literal["stdout", "stderr"]
OnLine = Callable[[int, Stream, str], None]
"""Told each line that a command printed: node, stream, the line without its end."""

PARALLEL = 64
"""Commands that run at a time; a thousand nodes must not mean a thousand processes of ours at once."""

TIMED_OUT = 124
"""The exit code of `timeout(1)` for a command that ran out of time."""

KEPT_BYTES = 8 * 1024 * 1024
"""What is kept of each stream that a command prints, where it is collected: its beginning. More belongs in
a file."""

PIECE_BYTES = 64 * 1024
"""A line that is longer is passed on in pieces of this size."""

END_LIMIT_S = 15.0
"""How long ending a command with all it started may take; the backend has a shorter limit of its own."""


class CommandHost(Protocol):
    """Where commands run: a backend, for nodes, or a service of a node."""

    def command(
        self,
        directory: LabDirectory,
        state: LabState,
        node: int,
        argv: Sequence[str],
        *,
        stdin: bool = False,
        user: str | None = None,
        tag: str = "",
    ) -> list[str]:
        """See `Host.command`."""

    async def end_command(
        self, directory: LabDirectory, state: LabState, node: int, tag: str, *, user: str | None = None
    ) -> list[str]:
        """See `Host.end_command`."""


@dataclass(frozen=True)
class Completed:
    """A command that has ended in a node.

    Attributes:
        node: Where.
        exit_code: Its own; 128 + n if signal n ended it, 124 if it ran out of time.
        stdout: What it printed, up to `KEPT_BYTES`; a mark at the end says how much more there was.
        stderr: What it wrote to stderr, with the same limit.
        seconds: How long it took.
        cut_bytes: How much of both was left out.
    """

    node: int
    exit_code: int
    stdout: str
    stderr: str
    seconds: float
    cut_bytes: int = 0

    @property
    def ok(self) -> bool:
        """Whether the exit code is 0."""
        return self.exit_code == 0

    def as_json(self) -> dict[str, Any]:
        """The command's end as `nm exec -o json` shows it."""
        return {
            "node": self.node,
            "exit_code": self.exit_code,
            "stdout": self.stdout,
            "stderr": self.stderr,
            "seconds": round(self.seconds, 6),
            "cut_bytes": self.cut_bytes,
        }


async def run_in_node(
    host: CommandHost,
    directory: LabDirectory,
    state: LabState,
    node: int,
    argv: Sequence[str],
    *,
    stdin: bytes | None = None,
    timeout_s: float | None = None,
    on_line: OnLine | None = None,
    user: str | None = None,
) -> Completed:
    """Run a command in a node and collect what it prints.

    Cancelling ends the command. A command that is ended, by that or by its time limit, ends with everything
    that it started in the node; one that ends by itself may leave a server behind.

    Args:
        host: The lab's backend, or a service.
        directory: The lab.
        state: Its note.
        node: Where to run.
        argv: The command.
        stdin: What it reads; nothing unless given.
        timeout_s: End it after so long.
        on_line: Told each line as it comes; nothing is collected then.
        user: Whose rights it has; root's unless given.

    Raises:
        UsageError: The time limit is no time.
    """
    _check_limit(timeout_s)
    tag, with_input = secrets.token_hex(8), stdin is not None
    command = host.command(directory, state, node, argv, stdin=with_input, user=user, tag=tag)
    started = time.monotonic()
    process = await _start(command, with_input=with_input)
    out, err = Kept(), Kept()
    streams = (
        _collect(process.stdout, out, node, "stdout", on_line),
        _collect(process.stderr, err, node, "stderr", on_line),
        _feed(process.stdin, stdin),
    )
    try:
        in_time = await _ends_in_time(timeout_s, process.wait(), *streams)
    except BaseException:
        await run_shielded(_end(process, host, directory, state, node, tag, user))
        raise
    if not in_time:
        left = await _end(process, host, directory, state, node, tag, user)
        _note_time_limit(f"{timeout_s:g} s", left, err, node, on_line)
    return Completed(
        node=node,
        exit_code=_exit_code(process) if in_time else TIMED_OUT,
        stdout=out.text(),
        stderr=err.text(),
        seconds=time.monotonic() - started,
        cut_bytes=out.cut + err.cut,
    )


def _check_limit(timeout_s: float | None) -> None:
    if timeout_s is not None and not timeout_s > 0:
        raise UsageError(
            f"the time limit of the command is {timeout_s:g} s, but every command needs some time",
            id="exec.timeout",
            found=f"{timeout_s:g}",
            expected="seconds above 0",
            hint="without a limit a command may take as long as it likes",
        )


async def _start(command: Sequence[str], *, with_input: bool) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE if with_input else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )


async def _ends_in_time(timeout_s: float | None, *parts: Coroutine[Any, Any, Any]) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            await asyncio.gather(*parts)
    except TimeoutError:
        return False
    return True


def _note_time_limit(limit: str, left: Sequence[str], err: Kept, node: int, on_line: OnLine | None) -> None:
    err.add(f"the command took longer than {limit}\n".encode())
    if left:
        err.add(f"it was ended, but these are left: {', '.join(left)}\n".encode())
    if on_line is not None:
        for line in err.text().splitlines():
            on_line(node, "stderr", line)


def _exit_code(process: asyncio.subprocess.Process) -> int:
    """Return the exit code as a shell gives it: 128 + n for signal n."""
    code = process.returncode if process.returncode is not None else 1
    return code if code >= 0 else 128 - code


async def run_in_nodes(
    host: CommandHost,
    directory: LabDirectory,
    state: LabState,
    nodes: Sequence[int],
    argv: Sequence[str],
    *,
    timeout_s: float | None = None,
    on_line: OnLine | None = None,
    user: str | None = None,
) -> list[Completed]:
    """Run a command in several nodes at once; the results come in the order of `nodes`.

    Raises:
        NmError: It could not be started in one of them; it is then ended in all.
    """
    places = asyncio.Semaphore(PARALLEL)

    async def one(node: int) -> Completed:
        async with places:
            return await run_in_node(
                host, directory, state, node, argv, timeout_s=timeout_s, on_line=on_line, user=user
            )

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(node)) for node in nodes]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None  # the others failed alike, or were ended because of this one
    return [task.result() for task in tasks]


class Kept:
    """The beginning of a stream's output, up to a limit."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self.cut = 0

    def add(self, data: bytes) -> None:
        """Keep output up to the limit, and count the rest."""
        room = max(0, KEPT_BYTES - len(self._bytes))
        self._bytes += data[:room]
        self.cut += max(0, len(data) - room)

    def text(self) -> str:
        """What was kept, with a mark where something is missing."""
        mark = f"\n… [{self.cut} more bytes were left out]\n" if self.cut else ""
        return self._bytes.decode(errors="replace") + mark


async def _collect(
    stream: asyncio.StreamReader | None, into: Kept, node: int, name: Stream, on_line: OnLine | None
) -> None:
    assert stream is not None, "a pipe was asked for"
    begun = b""
    while chunk := await stream.read(PIECE_BYTES):
        if on_line is None:
            into.add(chunk)
            continue
        *lines, begun = (begun + chunk).split(b"\n")
        for line in lines:
            on_line(node, name, line.decode(errors="replace").rstrip("\r"))
        if len(begun) > PIECE_BYTES:
            on_line(node, name, begun.decode(errors="replace"))
            begun = b""
    if begun and on_line is not None:
        on_line(node, name, begun.decode(errors="replace").rstrip("\r"))


async def _feed(stream: asyncio.StreamWriter | None, data: bytes | None) -> None:
    if stream is None or data is None:
        return
    with suppress(BrokenPipeError, ConnectionResetError):
        stream.write(data)
        await stream.drain()
        stream.close()
        await stream.wait_closed()


async def _end(
    process: asyncio.subprocess.Process,
    host: CommandHost,
    directory: LabDirectory,
    state: LabState,
    node: int,
    tag: str,
    user: str | None,
) -> list[str]:
    """End a command with everything that it started in the node; return what is left all the same, in
    words."""
    left: list[str] = []
    try:
        async with asyncio.timeout(END_LIMIT_S):
            left = await host.end_command(directory, state, node, tag, user=user)
    except (NmError, TimeoutError) as error:  # the node may be gone, and what was in it with it
        left = [str(error)] if str(error) else []
    for number, grace in ((signal.SIGTERM, 1.0), (signal.SIGKILL, 5.0)):
        if process.returncode is not None:
            break
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), grace)
    return left
