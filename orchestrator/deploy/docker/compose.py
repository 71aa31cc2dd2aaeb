"""The compose tool: version 2 as a plug-in of `docker`, or the older `docker-compose`."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from orchestrator.deploy.home import LabDirectory
from orchestrator.errors import HostNotFit, NmError

Line = Callable[[str], None]


class ComposeFailed(NmError):
    """Compose could not do what it was asked; `lines` is what it said."""

    id = "docker.compose"
    exit_code = 5

    def __init__(self, code: int, lines: Sequence[str]) -> None:
        super().__init__(f"docker compose ended with exit code {code}")
        self.lines = tuple(lines)


@cache
def find_compose() -> tuple[str, ...]:
    """The command that is compose on this machine.

    Raises:
        HostNotFit: There is none.
    """
    if shutil.which("docker"):
        probe = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False, timeout=20)
        if probe.returncode == 0:
            return ("docker", "compose")
    if shutil.which("docker-compose"):
        return ("docker-compose",)
    raise HostNotFit(
        "no compose tool is installed",
        id="docker.no-compose",
        hint="install it: `sudo apt-get install docker-compose`, or Docker's own compose plug-in",
    )


def project(lab: str) -> str:
    """The compose project of a lab."""
    return f"nm-{lab}"


async def compose(
    directory: LabDirectory, arguments: Sequence[str], on_line: Line = lambda _line: None
) -> None:
    """Run compose on a lab's file, its output going to the lab's logs as well.

    Cancelling ends it.

    Raises:
        ComposeFailed: It ended with another code than 0.
    """
    file = directory.run / "docker-compose.yml"
    command = [*find_compose(), "-p", project(directory.name), "-f", str(file), *arguments]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=directory.run,
    )
    assert process.stdout is not None, "a pipe was asked for"
    said: list[str] = []
    try:
        async for raw in process.stdout:
            line = raw.decode(errors="replace").rstrip()
            said.append(line)
            _keep(directory.logs / "compose.log", line)
            on_line(line)
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    if code != 0:
        raise ComposeFailed(code, said)


def _keep(path: Path, line: str) -> None:
    with path.open("a") as file:
        file.write(line + "\n")
