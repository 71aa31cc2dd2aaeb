"""The command `top`: what nodes, links and flows carry now."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from orchestrator.cli import live
from orchestrator.cli.common import LabOption, Output, OutputOption, emit, table
from orchestrator.cli.top_views import COLUMNS, VIEWS, Row, rows_of, sorted_rows

if TYPE_CHECKING:
    from rich.console import RenderableType

    from orchestrator.lab import Lab
    from orchestrator.lab.metrics import MetricsSnapshot

KEYS = {"n": "nodes", "l": "links", "f": "flows", "g": "groups", "s": "sessions"}
"""Keys that choose a view; `o` sorts by the next column, `r` reverses, `p` pauses, `q` ends."""


FRAME_LINES = 5
"""Lines around the rows: heading, names of columns, rules, keys."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(top)


def top(
    view: Annotated[
        Literal["nodes", "links", "flows", "groups", "sessions"], typer.Option("--view", help="What to show.")
    ] = "links",
    sort: Annotated[
        str | None, typer.Option("--sort", metavar="COLUMN", help="Sort by this column; rates unless given.")
    ] = None,
    every: live.EveryOption = 1.0,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Rows at most.")] = 40,
    count: live.CountOption = None,
    lab: LabOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Show what a lab carries now; n, l, f, g, s choose nodes, links, flows, groups, sessions, and q ends.

    On a terminal the table is updated in place: o sorts by the next column, r reverses, p pauses. Elsewhere a
    table is printed for each update. With `-o json` one sample of everything is printed.
    """
    from orchestrator.lab import Lab

    found = Lab.attach(lab)
    screen = _Screen(found, view, limit)
    screen.sort_by(sort)
    if output is Output.json:
        emit(as_json(found.metrics.snapshot()))
    elif live.is_interactive():
        live.show(screen, every, count)
    else:
        _plain(screen, every, count)


def as_json(snapshot: MetricsSnapshot) -> dict[str, Any]:
    """Return a sample as `-o json` prints it."""
    state = {key: value for key, value in asdict(snapshot.state).items() if key != "re"}
    return {**state, "nodes": [{"node_id": node, **asdict(each)} for node, each in snapshot.nodes.items()]}


class _Screen:
    """What is shown: view, order, and the newest sample."""

    def __init__(self, lab: Lab, view: str, limit: int) -> None:
        self._lab = lab
        self._limit = limit
        self.view = view
        self._column: dict[str, str] = {}
        self._reversed = False
        self.paused = False
        self._snapshot: MetricsSnapshot | None = None

    def sort_by(self, column: str | None) -> None:
        """Sort the present view by a column.

        Raises:
            UsageError: It has no such column.
        """
        from orchestrator.errors import UsageError

        if column is None:
            return
        if column not in COLUMNS[self.view]:
            raise UsageError(
                f"the view `{self.view}` has no column `{column}`",
                id="top.column",
                found=column,
                expected=", ".join(COLUMNS[self.view]),
            )
        self._column[self.view] = column

    def update(self) -> None:
        """Take a sample."""
        self._snapshot = self._lab.metrics.snapshot()

    def press(self, key: str) -> None:
        """Handle a key."""
        if key in KEYS:
            self.view = KEYS[key]
        elif key == "o":
            columns = list(COLUMNS[self.view])
            place = columns.index(self.column) + 1
            self._column[self.view] = columns[place % len(columns)]
        elif key == "r":
            self._reversed = not self._reversed
        elif key == "p":
            self.paused = not self.paused

    @property
    def column(self) -> str:
        """The column that the present view is sorted by."""
        return self._column.get(self.view, VIEWS[self.view])

    def rows(self, limit: int | None = None) -> tuple[list[Row], int]:
        """Return the rows to show, at most so many, and how many there are."""
        assert self._snapshot is not None, "a sample was taken"
        found = sorted_rows(rows_of(self._snapshot, self.view), self.view, self.column)
        if self._reversed:
            found.reverse()
        return found[: self._limit if limit is None else min(limit, self._limit)], len(found)

    def heading(self, total: int) -> str:
        """Return what stands above the table."""
        assert self._snapshot is not None, "a sample was taken"
        state = self._snapshot.state
        parts = [f"lab {self._lab.name}", f"{total} {self.view}", f"sorted by {self.column}"]
        if not state.interval_ms:
            parts.append("nodes report nothing: `metrics: {enabled: false}` in the topology")
        for what, number in (("reports refused", state.refused), ("rows lost", state.lost_rows)):
            if number:
                parts.append(f"{number} {what}")
        if self.paused:
            parts.append("paused")
        return "  ".join(parts)

    def render(self, height: int) -> RenderableType:
        """Return the table for a terminal with so many lines."""
        from rich import box
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        rows, total = self.rows(max(1, height - FRAME_LINES))
        shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=False)
        for name in COLUMNS[self.view]:
            style = "bold" if name == self.column else ""
            shown.add_column(name, style=style, justify="left" if name in _LEFT else "right", no_wrap=True)
        for row in rows:
            shown.add_row(*(Text(cell) for cell in row.cells))
        keys = "n nodes  l links  f flows  g groups  s sessions  o order  r reverse  p pause  q end"
        return Group(Text(self.heading(total), style="bold"), shown, Text(keys, style="dim"))


def _plain(screen: _Screen, every: float, count: int | None) -> None:
    for shown in live.updates(every, count):
        if shown:
            print()
        screen.update()
        rows, total = screen.rows()
        print(f"{time.strftime('%H:%M:%S')}  {screen.heading(total)}")
        table(COLUMNS[screen.view], [row.cells for row in rows])
        sys.stdout.flush()


_LEFT = frozenset({"flow", "drops", "role", "state"})
