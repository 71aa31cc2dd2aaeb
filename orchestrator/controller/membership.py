"""Handle requests of operators to add and remove nodes and links.

A program does it, as `nm node add` and `nm link add` do, and asks this controller in turn for the change; see
`orchestrator.controller.local_programs`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from orchestrator.controller.core import Core, Session
from orchestrator.controller.errors import LabNotChanged
from orchestrator.controller.link_changes import MAX_CAUSE
from orchestrator.controller.local_programs import LocalPrograms, reason_of
from orchestrator.errors import NmError
from orchestrator.protocol import Frame, Message
from orchestrator.protocol import messages as m

__all__ = ["LIMIT", "Membership"]

PROGRAM = "orchestrator.lab.membership_program"

LIMIT = 180.0
"""Seconds that it may take: twenty each for the lab's lock and the controller, sixty for a new node to be
ready, and the rest to undo all of it."""

_COMMANDS: dict[type[Message], tuple[str, str]] = {
    m.AddLabNode: ("add node", "nm node add"),
    m.RemoveLabNode: ("remove node", "nm node remove"),
    m.AddLabLink: ("add link", "nm link add"),
    m.RemoveLabLink: ("remove link", "nm link remove"),
}
"""What the program is to do for each message, and the command that does the same."""


class Membership:
    """Runs the program that adds and removes nodes and links."""

    def __init__(self, core: Core) -> None:
        self._programs = LocalPrograms(core.settings)
        self._backend = core.settings.backend
        self.handlers: dict[type[Message], Callable[[Session, Frame, Any], Awaitable[None]]] = dict.fromkeys(
            _COMMANDS, self._change
        )

    async def _change(self, session: Session, frame: Frame, message: Any) -> None:
        do, command = _COMMANDS[type(message)]
        if self._programs.folder is None:
            raise LabNotChanged(
                f"the controller of a {self._backend} lab does not start or end parts of it",
                id="lab.backend",
                hint=f"`{command}` on the machine of the lab does it",
            )
        request = {"do": do, **asdict(message), "cause": message.cause[:MAX_CAUSE]}
        for name in ("links", "labels", "values"):
            if name in request:
                request[name] = request[name] or {}
        session.connection.ack(frame, await self._run(request))

    async def _run(self, request: dict[str, Any]) -> dict[str, Any]:
        async with self._programs.running(PROGRAM) as process:
            try:
                async with asyncio.timeout(LIMIT):
                    out, said = await process.communicate(json.dumps(request).encode() + b"\n")
            except TimeoutError:
                raise LabNotChanged(
                    f"it was not done within {LIMIT:g} s",
                    id="lab.not-ready",
                    hint="`nm status` says how far it came; the same request again completes it",
                ) from None
        try:
            answer: dict[str, Any] = json.loads(out)
        except ValueError:
            raise LabNotChanged(f"it was not done: {reason_of(process, said)}") from None
        if "error" in answer:
            raise _error_of(answer["error"], process.returncode or 1)
        return answer


def _error_of(told: dict[str, Any], exit_code: int) -> NmError:
    """Return the error that the program ended with."""
    error = LabNotChanged(
        told["message"],
        id=told["id"],
        found=told.get("found"),
        expected=told.get("expected"),
        hint=told.get("hint"),
    )
    error.exit_code = exit_code
    return error
