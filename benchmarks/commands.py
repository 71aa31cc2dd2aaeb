"""Run other programs with a time limit, and end them by process group.

Every program gets its own process group. Whatever it leaves running is ended through that group, never by
name.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from benchmarks.errors import CommandFailed, NotRunnable

__all__ = ["Background", "Finished", "require", "run"]

_GRACE_SECONDS = 2.0  # between SIGTERM and SIGKILL


@dataclass(frozen=True, slots=True)
class Finished:
    """Result of a finished program."""

    argv: tuple[str, ...]
    exit_code: int
    stdout: str
    stderr: str
    seconds: float


def require(*programs: str, package: str | None = None) -> None:
    """Raise `NotRunnable` naming the first program that is not installed."""
    for program in programs:
        if shutil.which(program) is None:
            raise NotRunnable(f"{program} is not installed (Debian package `{package or program}`)")


def run(
    argv: Sequence[str],
    *,
    timeout: float,
    stdin: str | None = None,
    check: bool = True,
    env: Mapping[str, str] | None = None,
) -> Finished:
    """Run a program to its end.

    Args:
        argv: Program and arguments.
        timeout: Seconds after which its process group is ended.
        stdin: Text for its standard input; None means none.
        check: Whether an exit code other than 0 is an error.
        env: Environment; None means this process's.

    Raises:
        CommandFailed: It could not be started, took too long, or failed while `check` is set.
    """
    begin = time.monotonic()
    with Background(argv, env=env) as process:
        try:
            stdout, stderr = process.popen.communicate(stdin, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise CommandFailed(f"`{' '.join(argv)}` took longer than {timeout:g} s") from None
    finished = Finished(tuple(argv), process.popen.returncode, stdout, stderr, time.monotonic() - begin)
    if check and finished.exit_code != 0:
        raise CommandFailed(f"`{' '.join(argv)}` ended with {finished.exit_code}: {_tail(stderr or stdout)}")
    return finished


class Background:
    """A child process in its own process group; leaving the `with` block ends the group."""

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> None:
        """Start the program with pipes for its standard streams.

        Raises:
            CommandFailed: The program could not be started.
        """
        self.argv = tuple(argv)
        try:
            self.popen: subprocess.Popen[str] = subprocess.Popen(
                self.argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
                env=None if env is None else dict(env),
            )
        except OSError as error:
            raise CommandFailed(f"`{argv[0]}` could not be started: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def wait_for_line(self, needle: str, *, timeout: float) -> str:
        """Return the first line of standard output that contains `needle`.

        Raises:
            CommandFailed: The program ended, or the line did not come in time.
        """
        stdout = self.popen.stdout
        assert stdout is not None  # opened as a pipe above
        deadline = time.monotonic() + timeout
        text = b""
        while (left := deadline - time.monotonic()) > 0:
            ready, _, _ = select.select([stdout], [], [], left)
            if not ready:
                break
            # Read the descriptor itself: select does not see what the text layer has buffered.
            piece = os.read(stdout.fileno(), 65536)
            if not piece:
                raise CommandFailed(f"`{self.argv[0]}` ended early: {self._stderr_tail()}")
            text += piece
            for line in text.decode(errors="replace").splitlines():
                if needle in line:
                    return line
        raise CommandFailed(f"`{' '.join(self.argv)}` did not print {needle!r} within {timeout:g} s")

    def finish(self, *, timeout: float) -> Finished:
        """Close its standard input, wait for its end, and return what it printed since `wait_for_line`.

        Raises:
            CommandFailed: It took too long.
        """
        begin = time.monotonic()
        try:
            stdout, stderr = self.popen.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            raise CommandFailed(f"`{' '.join(self.argv)}` did not end within {timeout:g} s") from None
        return Finished(self.argv, self.popen.returncode, stdout, stderr, time.monotonic() - begin)

    def stop(self) -> None:
        """End the process group: SIGTERM first, then SIGKILL. Safe to call twice."""
        if self.popen.poll() is None:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(_GRACE_SECONDS)
        self._signal(signal.SIGKILL)
        self.popen.wait()
        self._wait_for_group()
        for stream in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _signal(self, number: signal.Signals) -> None:
        # The group id stays valid while any member lives; for an empty group killpg fails with ESRCH.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, number)

    def _wait_for_group(self) -> None:
        """Wait for the children: they are reparented and reaped by init, so poll until the group is empty."""
        deadline = time.monotonic() + _GRACE_SECONDS
        with contextlib.suppress(ProcessLookupError, PermissionError):
            while time.monotonic() < deadline:
                os.killpg(self.popen.pid, 0)
                time.sleep(0.005)

    def _stderr_tail(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            _, stderr = self.popen.communicate(timeout=_GRACE_SECONDS)
            return _tail(stderr)
        return "no message"


def _tail(text: str, lines: int = 3) -> str:
    return " / ".join(text.strip().splitlines()[-lines:]) or "no message"
