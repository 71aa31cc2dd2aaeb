"""Mininet as a peer: Debian's package, Linux bridges as switches.

Its usual switch, Open vSwitch, needs a kernel module; the bridge is the one that runs everywhere. Mininet
rewrites machine-wide settings when it starts, so callers surround it with `sysctls.preserved()`. Its own
clean-up command ends processes by name and is not used: what a network started, the same process stops.

Its bridges stand in a throw-away namespace instead of the machine's own: a firewall there, such as Docker's,
would drop what they forward.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from benchmarks import namespaces
from benchmarks.commands import Background, require, run
from benchmarks.errors import CommandFailed, NotRunnable
from benchmarks.paths import Endpoint, Path

__all__ = ["BootTimes", "boot", "linear"]

_PYTHON = "/usr/bin/python3"
_PROGRAM = FilePath(__file__).with_name("mininet_host.py")


@dataclass(frozen=True, slots=True)
class BootTimes:
    """How long a network of so many hosts took to come up and to go away, in seconds."""

    hosts: int
    up_seconds: float
    down_seconds: float


@contextlib.contextmanager
def linear(switches: int) -> Iterator[Path]:
    """Give the path from the first to the last host of a line of bridges.

    Raises:
        NotRunnable: Mininet is not installed, or its network does not carry a ping here.
    """
    with _network(switches, timeout=60) as (_, ready):
        first, last = ready["hosts"][0], ready["hosts"][-1]
        sender, receiver = _endpoint(first), _endpoint(last)
        try:
            run(sender.argv("ping", "-n", "-c", "1", "-W", "2", receiver.address), timeout=10)
        except CommandFailed as error:
            raise NotRunnable(f"Mininet's network came up but carries nothing: {error}") from error
        yield Path(f"mininet-{switches}", sender, receiver, hops=1)


def boot(hosts: int, *, timeout: float) -> BootTimes:
    """Start and stop a line of `hosts` bridges with a host each, and say how long both took.

    Raises:
        NotRunnable: Mininet is not installed.
        CommandFailed: It took longer than `timeout` seconds.
    """
    with _network(hosts, timeout=timeout) as (process, ready):
        said = process.finish(timeout=timeout).stdout
        stopped = json.loads(said.partition("stopped ")[2])
        return BootTimes(hosts, ready["up_seconds"], stopped["down_seconds"])


@contextlib.contextmanager
def _network(switches: int, *, timeout: float) -> Iterator[tuple[Background, dict[str, Any]]]:
    require("mn", package="mininet")
    require("brctl", package="bridge-utils")
    program = [_PYTHON, "-I", str(_PROGRAM), "linear", str(switches)]
    with namespaces.empty() as name, Background(["ip", "netns", "exec", name, *program]) as process:
        line = process.wait_for_line("ready ", timeout=timeout)
        ready = json.loads(line.partition("ready ")[2])
        try:
            yield process, ready
        finally:
            # Closing its input asks it to take the network down; ending it would leave the bridges behind.
            if process.popen.poll() is None:
                with contextlib.suppress(CommandFailed):
                    process.finish(timeout=timeout)


def _endpoint(host: dict[str, Any]) -> Endpoint:
    return Endpoint(
        ("nsenter", f"--net=/proc/{host['pid']}/ns/net", "--"), str(host["address"]), str(host["device"])
    )
