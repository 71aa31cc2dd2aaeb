"""Follow the events of a lab that is up, across restarts of its controller."""

from __future__ import annotations

from collections.abc import AsyncIterator

from orchestrator.deploy import state as notes
from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.state import LabState
from orchestrator.lab.operator import ANSWER_S, operator
from orchestrator.protocol.messages import Event, Events, WatchEvents
from orchestrator.transport import Disconnected

__all__ = ["follow"]

BACK_S = 10.0
"""Seconds to wait for a controller that is started again."""


async def follow(directory: LabDirectory, state: LabState, after: int) -> AsyncIterator[Event]:
    """Yield the events after a number, then each new one, until the lab is down.

    Raises:
        ControllerUnreachable: The controller ended and does not come back.
    """
    while True:
        async with operator(directory, state, BACK_S) as each:
            try:
                await each.connection.request(WatchEvents(after), within=ANSWER_S)
                async for frame in each.connection:
                    if isinstance(frame.message, Events):
                        for event in frame.message.events:
                            yield event
                            after = event.seq
            except Disconnected:
                pass
        if notes.read(directory) is None:
            return
