"""Mininet as a peer: Debian's package, Linux bridges as switches.

Its default switch, Open vSwitch, needs a kernel module; Linux bridges run everywhere. Mininet changes
machine-wide settings when it starts, so callers wrap it in `sysctls.preserved()`. Its clean-up command,
`mn -c`, ends processes by name and is not used: the process that started a network also stops it.

The bridges are created in a temporary namespace instead of the host's: firewall rules there, such as those of
Docker, would drop forwarded packets.
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

__all__ = ["BootTimes", "boot", "linear", "pair"]

_PYTHON = "/usr/bin/python3"
_PROGRAM = FilePath(__file__).with_name("mininet_host.py")


@dataclass(frozen=True, slots=True)
class BootTimes:
    """Seconds that a network of `hosts` hosts took to start and to stop."""

    hosts: int
    up_seconds: float
    down_seconds: float


@contextlib.contextmanager
def linear(switches: int) -> Iterator[Path]:
    """Yield the path from the first to the last host of a line of bridges.

    Raises:
        NotRunnable: Mininet is not installed, or a ping through its network fails.
    """
    with _network("linear", str(switches), timeout=60) as (_, ready):
        first, last = ready["hosts"][0], ready["hosts"][-1]
        sender, receiver = _endpoint(first), _endpoint(last)
        try:
            run(sender.argv("ping", "-n", "-c", "1", "-W", "2", receiver.address), timeout=10)
        except CommandFailed as error:
            raise NotRunnable(f"Mininet's network started but does not forward packets: {error}") from error
        yield Path(f"mininet-{switches}", sender, receiver, hops=1)


@contextlib.contextmanager
def pair(rate_bps: int | None) -> Iterator[Path]:
    """Yield the path between two hosts with a TCLink of this rate between, or of none.

    Raises:
        NotRunnable: Mininet is not installed.
    """
    with _network("pair", str((rate_bps or 0) / 1e6), timeout=60) as (_, ready):
        first, last = ready["hosts"]
        yield Path("mininet-pair", _endpoint(first), _endpoint(last), hops=1)


def boot(hosts: int, *, timeout: float) -> BootTimes:
    """Start and stop a line of `hosts` bridges with a host each, and return how long both took.

    Raises:
        NotRunnable: Mininet is not installed.
        CommandFailed: It took longer than `timeout` seconds.
    """
    with _network("linear", str(hosts), timeout=timeout) as (process, ready):
        output = process.finish(timeout=timeout).stdout
        stopped = json.loads(output.partition("stopped ")[2])
        return BootTimes(hosts, ready["up_seconds"], stopped["down_seconds"])


@contextlib.contextmanager
def _network(shape: str, size: str, *, timeout: float) -> Iterator[tuple[Background, dict[str, Any]]]:
    require("mn", package="mininet")
    require("brctl", package="bridge-utils")
    program = [_PYTHON, "-I", str(_PROGRAM), shape, size]
    with namespaces.empty() as name, Background(["ip", "netns", "exec", name, *program]) as process:
        line = process.wait_for_line("ready ", timeout=timeout)
        ready = json.loads(line.partition("ready ")[2])
        try:
            yield process, ready
        finally:
            # It removes the network when its input is closed; a signal would leave the bridges behind.
            if process.popen.poll() is None:
                with contextlib.suppress(CommandFailed):
                    process.finish(timeout=timeout)


def _endpoint(host: dict[str, Any]) -> Endpoint:
    return Endpoint(
        ("nsenter", f"--net=/proc/{host['pid']}/ns/net", "--"), str(host["address"]), str(host["device"])
    )
