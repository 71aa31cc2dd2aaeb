"""Commands inside nodes: one at a time or many at once, collected or streamed."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.host import Host
from orchestrator.deploy.state import LabState

Stream = Literal["stdout", "stderr"]
OnLine = Callable[[int, Stream, str], None]
"""Told each line that a command printed: node, stream, the line without its end."""

PARALLEL = 64
"""Commands that run at a time; a thousand nodes must not mean a thousand processes of ours at once."""

TIMED_OUT = 124
"""The exit code of `timeout(1)` for a command that ran out of time."""

LINE_LIMIT = 16 * 1024 * 1024


@dataclass(frozen=True)
class Completed:
    """A command that has ended in a node.

    Attributes:
        node: Where.
        exit_code: Its own; 128 + n if signal n ended it, 124 if it ran out of time.
        stdout: What it printed.
        stderr: What it complained.
        seconds: How long it took.
    """

    node: int
    exit_code: int
    stdout: str
    stderr: str
    seconds: float

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
        }


async def run_in_node(
    host: Host,
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

    Cancelling ends the command.

    Args:
        host: The lab's backend.
        directory: The lab.
        state: Its note.
        node: Where to run.
        argv: The command.
        stdin: What it reads; nothing unless given.
        timeout_s: End it after so long.
        on_line: Told each line as it comes.
        user: Whose rights it has; root's unless given.
    """
    command = host.command(directory, state, node, argv, stdin=stdin is not None, user=user)
    started = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        limit=LINE_LIMIT,
    )
    out, err = bytearray(), bytearray()
    timed_out = False
    try:
        async with asyncio.timeout(timeout_s):
            await asyncio.gather(
                _collect(process.stdout, out, node, "stdout", on_line),
                _collect(process.stderr, err, node, "stderr", on_line),
                _feed(process.stdin, stdin),
                process.wait(),
            )
    except TimeoutError:
        timed_out = True
        err += f"the command took longer than {timeout_s:g} s\n".encode()
    finally:
        await _end(process)
    code = process.returncode if process.returncode is not None else 1
    return Completed(
        node=node,
        exit_code=TIMED_OUT if timed_out else code if code >= 0 else 128 - code,
        stdout=out.decode(errors="replace"),
        stderr=f"the command took longer than {timeout_s:g} s\n"
        if timed_out
        else err.decode(errors="replace"),
        seconds=time.monotonic() - started,
    )


async def run_in_nodes(
    host: Host,
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


async def _collect(
    stream: asyncio.StreamReader | None, into: bytearray, node: int, name: Stream, on_line: OnLine | None
) -> None:
    assert stream is not None, "a pipe was asked for"
    if on_line is None:
        while chunk := await stream.read(65536):
            into += chunk
        return
    async for line in stream:
        into += line
        on_line(node, name, line.decode(errors="replace").rstrip("\r\n"))


async def _feed(stream: asyncio.StreamWriter | None, data: bytes | None) -> None:
    if stream is None or data is None:
        return
    with suppress(BrokenPipeError, ConnectionResetError):
        stream.write(data)
        await stream.drain()
        stream.close()
        await stream.wait_closed()


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a command that is still running, with everything it started in its session."""
    if process.returncode is not None:
        return
    for number, grace in ((signal.SIGTERM, 2.0), (signal.SIGKILL, 5.0)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), grace)
            return
