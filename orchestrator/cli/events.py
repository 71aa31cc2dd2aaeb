"""The command `events`."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import LabOption, Output, OutputOption, emit, table

if TYPE_CHECKING:
    from orchestrator.lab import AsyncLab
    from orchestrator.protocol.messages import Event


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(events)


def events(
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on with new events; as JSON, one object a line.")
    ] = False,
    after: Annotated[
        int, typer.Option("--after", metavar="N", min=0, max=2**63 - 1, help="Only events behind number N.")
    ] = 0,
    lab: LabOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Show what happened in a lab: numbered events, from the first or behind a number."""
    from orchestrator.lab import AsyncLab, loop_thread

    found = AsyncLab.attach(lab)
    if follow:
        loop_thread.call(_follow(found, after, output))
        return
    seen = loop_thread.call(found.events(after))
    if output is Output.json:
        emit([_as_json(event) for event in seen])
    else:
        table(("number", "time", "event", "node", "detail"), [_row(event) for event in seen])


async def _follow(lab: AsyncLab, after: int, output: Output) -> None:
    async for event in lab.follow_events(after):
        line = json.dumps(_as_json(event), default=str) if output is Output.json else "  ".join(_row(event))
        print(line.rstrip(), flush=True)


def _as_json(event: Event) -> dict[str, object]:
    return {
        "seq": event.seq,
        "time_ms": event.time_ms,
        "name": event.name,
        "node": event.node,
        "detail": event.detail,
    }


def _row(event: Event) -> list[str]:
    clock = time.strftime("%H:%M:%S", time.localtime(event.time_ms / 1000)) + f".{event.time_ms % 1000:03d}"
    facts = event.detail if isinstance(event.detail, dict) else {}
    detail = " ".join(f"{key}={value}" for key, value in facts.items())
    return [str(event.seq), clock, event.name, str(event.node or ""), detail]
