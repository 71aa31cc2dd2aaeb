"""Probe links of a lab that is up, and read what probes measured."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.state import LabState
from orchestrator.errors import UsageError
from orchestrator.lab.operator import ANSWER_S, operator
from orchestrator.protocol import Message
from orchestrator.protocol.messages import GetProbes, ProbeList, ProbeStatus, StartProbe, WaitProbe
from orchestrator.transport import Connection

__all__ = ["DEFAULT_PROBE_BYTES", "DEFAULT_PROBE_S", "read", "run"]

DEFAULT_PROBE_BYTES = 64 * 1024 * 1024
"""What a probe may send: 50 ms of a link of 10 Gbit/s."""

DEFAULT_PROBE_S = 3.0
"""What a probe may take: enough for some 700 echo requests."""

MOST_BYTES = 2**63 - 1
MOST_MS = 2**32 - 1

WAIT_S = 3_600.0
"""How long the result is waited for: longer than the longest queue of a link takes."""


async def run(
    directory: LabDirectory,
    state: LabState,
    src: int,
    dst: int,
    *,
    below: bool = False,
    bytes: int | str = DEFAULT_PROBE_BYTES,
    time: float | str = DEFAULT_PROBE_S,
) -> ProbeStatus:
    """Measure the direction of a link from one node to its neighbour; see `AsyncLink.probe`."""
    request = StartProbe(src, dst, below, _bytes(bytes), _milliseconds(time))
    async with operator(directory, state) as connection:
        reply = await connection.connection.request(request, within=ANSWER_S)
        value = getattr(reply, "value", None)
        assert isinstance(value, dict), "the controller answers with the number of the probe"
        wait = WaitProbe(int(value["id"]), round(WAIT_S * 1000))
        return (await _ask(connection.connection, wait, WAIT_S + ANSWER_S)).probes[0]


async def read(directory: LabDirectory, state: LabState, after: int = 0) -> Sequence[ProbeStatus]:
    """Return the probes after a number, in order."""
    found: list[ProbeStatus] = []
    async with operator(directory, state) as connection:
        while True:
            reply = await _ask(connection.connection, GetProbes(after), ANSWER_S)
            found.extend(reply.probes)
            if not reply.more or not reply.probes:
                return found
            after = reply.probes[-1].id


async def _ask(connection: Connection, request: Message, limit_s: float) -> ProbeList:
    reply = await connection.request(request, within=limit_s)
    assert isinstance(reply, ProbeList), "the controller answers a request with its reply"
    return reply


def _bytes(value: int | str) -> int:
    from orchestrator.units import parse_size

    try:
        number = value if isinstance(value, int) else parse_size(value).bytes
    except ValueError as error:
        raise UsageError(
            str(error), id="probe.invalid", found=str(value), expected="such as '10 MB'"
        ) from None
    return _bounded(number, value, MOST_BYTES, "size")


def _milliseconds(value: float | str) -> int:
    from orchestrator.units import parse_duration

    number = round(value * 1000 if isinstance(value, int | float) else parse_duration(value).us / 1000)
    return _bounded(number, value, MOST_MS, "time")


def _bounded(number: int, value: object, most: int, what: str) -> int:
    """Return a number that fits the request; whether it is a good one the controller knows."""
    if not 0 <= number <= most:
        raise UsageError(f"`{value}` is no {what} of a probe", id="probe.invalid", found=str(value))
    return number
