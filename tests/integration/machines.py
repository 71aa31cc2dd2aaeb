"""A machine that is no part of a lab: a network namespace of the test's own, held by a process."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.integration.waiting import until

LIMIT_S = 30.0


@dataclass(frozen=True)
class Machine:
    """A network namespace; `pid` is the process that holds it."""

    pid: int

    def run(self, *argv: object, ok: bool = True) -> str:
        """Run a command in it, and return what it printed; it has to end well unless `ok` is false."""
        done = subprocess.run(
            self.command(*argv), capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        assert done.returncode == 0 or not ok, f"{argv}: {done.stdout}\n{done.stderr}"
        return done.stdout

    @contextmanager
    def serving(self, folder: Path, address: str, port: int) -> Iterator[None]:
        """Serve a folder over HTTP in it."""
        argv = ["python3", "-m", "http.server", "--bind", address, "-d", str(folder), str(port)]
        with _running(self.command(*argv)):
            until(lambda: f":{port} " in self.run("ss", "-Hltn"), LIMIT_S)
            yield

    def command(self, *argv: object) -> Sequence[str]:
        """The argument list that runs a command in it."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", "--", *map(str, argv)]


@contextmanager
def machine() -> Iterator[Machine]:
    """Make a network namespace; it vanishes with the processes in it."""
    with _running(["unshare", "--net", "sleep", "600"]) as process:
        ours = Path("/proc/self/ns/net").readlink()
        until(lambda: Path(f"/proc/{process.pid}/ns/net").readlink() != ours, LIMIT_S)
        made = Machine(process.pid)
        made.run("ip", "link", "set", "lo", "up")
        yield made


@contextmanager
def _running(argv: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait(LIMIT_S)


@contextmanager
def named(made: Machine, name: str) -> Iterator[None]:
    """Give the namespace a name, as `ip netns` does."""
    subprocess.run(["ip", "netns", "attach", name, str(made.pid)], timeout=LIMIT_S, check=True)
    try:
        yield
    finally:
        subprocess.run(["ip", "netns", "delete", name], timeout=LIMIT_S, check=True)
