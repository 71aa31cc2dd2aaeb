"""The command `status`: what state a lab and its nodes are in, once or as it changes."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import live
from orchestrator.cli.common import LabOption, Output, OutputOption, emit, notify, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from orchestrator.lab import Lab, LabStatus, LinkInfo

__all__ = ["link_list", "links_in_short", "print_services", "status"]

_COLUMNS = ("id", "name", "state", "address", "config")
_SERVICE_COLUMNS = ("node", "service", "state", "restarts", "exit code")


def status(
    watch: Annotated[
        bool,
        typer.Option("-w", "--watch", help="Show it again and again; with `-o json`, one object a line."),
    ] = False,
    every: live.EveryOption = 1.0,
    count: live.CountOption = None,
    lab: LabOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Show what state a lab and its nodes are in; `nm top` shows what they carry.

    With --watch it is updated in place on a terminal until q is pressed; elsewhere it is printed each time.
    """
    from orchestrator.lab import Lab

    found = Lab.attach(lab)
    if not watch:
        seen = found.status()
        if output is Output.json:
            emit(seen.as_json())
        else:
            _print(seen)
    elif output is Output.table and live.is_interactive():
        live.show(_Screen(found), every, count)
    else:
        _print_updates(found, every, count, output)


def _print_updates(lab: Lab, every: float, count: int | None, output: Output) -> None:
    for shown in live.updates(every, count):
        seen = lab.status()
        if output is Output.json:
            print(json.dumps({"time_ms": round(time.time() * 1000), **seen.as_json()}, default=str))
        else:
            if shown:
                print()
            print(time.strftime("%H:%M:%S"))
            _print(seen)
        sys.stdout.flush()


def _print(seen: LabStatus) -> None:
    print(f"lab {seen.lab}  {seen.backend}  {seen.state}")
    table(_COLUMNS, _cells(seen))
    print(f"links: {links_in_short(seen.links)}")
    print_services(seen)
    for problem in seen.problems:
        notify(f"  {problem}")


class _Screen:
    """The status of a lab on a terminal; nodes that are not ready come first where not all fit."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._seen: LabStatus | None = None
        self.paused = False

    def update(self) -> None:
        """Read the status."""
        self._seen = self._lab.status()

    def press(self, key: str) -> None:
        """Handle a key."""
        if key == "p":
            self.paused = not self.paused

    def render(self, height: int) -> RenderableType:
        """Return it for a terminal with so many lines."""
        from rich import box
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        seen = self._seen
        assert seen is not None, "the status was read"
        ready = sum(node.state == "ready" for node in seen.nodes)
        below = [Text(f"links: {links_in_short(seen.links)}")]
        below += [Text(f"service {' '.join(row)}") for row in _service_cells(seen)]
        below += [Text(problem, style="red") for problem in seen.problems[: max(1, height // 4)]]
        most = max(1, height - FRAME_LINES - len(below))
        rows = list(zip(seen.nodes, _cells(seen), strict=True))
        if len(rows) > most:
            rows.sort(key=lambda row: row[0].state == "ready")
        nodes = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in _COLUMNS:
            nodes.add_column(name, no_wrap=True)
        for _, cells in rows[:most]:
            nodes.add_row(*(Text(cell) for cell in cells))
        heading = f"lab {seen.lab}  {seen.backend}  {seen.state}  {ready} of {len(seen.nodes)} nodes ready"
        heading += f"  {time.strftime('%H:%M:%S')}" + ("  paused" if self.paused else "")
        return Group(Text(heading, style="bold"), nodes, *below, Text("p pause  q end", style="dim"))


FRAME_LINES = 5
"""Lines around the nodes: heading, names of columns, rules, keys."""


def _cells(seen: LabStatus) -> list[tuple[str, ...]]:
    return [(str(node.id), node.name, node.state, node.address, node.config) for node in seen.nodes]


def _service_cells(seen: LabStatus) -> list[tuple[str, ...]]:
    return [
        (
            str(each.node),
            each.service,
            each.state,
            str(each.restarts),
            "" if each.exit_code is None else str(each.exit_code),
        )
        for each in seen.services
    ]


def print_services(seen: LabStatus) -> None:
    """Print the user's own services, if there are any."""
    if seen.services:
        table(_SERVICE_COLUMNS, _service_cells(seen), "services")


def links_in_short(links: Sequence[LinkInfo]) -> str:
    """Return how many links are up, and which are not."""
    if any(link.state == "unknown" for link in links):
        return f"{len(links)}, state unknown"
    down = [link for link in links if link.state != "up"]
    return f"{len(links) - len(down)} of {len(links)} up" + link_list(down)


def link_list(links: Sequence[LinkInfo]) -> str:
    """Return the first links with their states, to follow another text."""
    shown = ", ".join(
        f"{link.a}–{link.b} is {link.state}" + (f" ({link.reason})" if link.reason else "")
        for link in links[:8]
    )
    return f"; {shown}" + (f" and {len(links) - 8} more" if len(links) > 8 else "") if links else ""
