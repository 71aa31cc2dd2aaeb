"""Show something again and again: in place on a terminal, elsewhere one output after the other."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["CountOption", "EveryOption", "View", "is_interactive", "keys_in", "show", "updates"]

EveryOption = Annotated[
    float, typer.Option("--every", metavar="S", min=0.1, max=3600, help="Seconds between two updates.")
]
CountOption = Annotated[
    int | None, typer.Option("--count", metavar="N", min=1, help="End after so many updates.")
]

ENDING = frozenset({"q", "\x1b", "\x04"})
"""Keys that end: q, Esc, Ctrl-D."""


class View(Protocol):
    """What is shown on a terminal.

    Attributes:
        paused: Whether it stays as it is.
    """

    paused: bool

    def update(self) -> None:
        """Read what is to be shown."""
        ...

    def press(self, key: str) -> None:
        """Handle a key."""
        ...

    def render(self, height: int) -> RenderableType:
        """Return it for a terminal with so many lines."""
        ...


def is_interactive() -> bool:
    """Tell whether both the input and the output are terminals."""
    return sys.stdout.isatty() and sys.stdin.isatty()


def updates(every: float, count: int | None) -> Iterator[int]:
    """Yield the numbers of the updates from 0 on, each when it is due."""
    shown = 0
    while count is None or shown < count:
        if shown:
            time.sleep(every)
        yield shown
        shown += 1


def show(view: View, every: float, count: int | None) -> None:
    """Show a view on the terminal until q is pressed, or for so many updates."""
    from rich.console import Console
    from rich.live import Live

    console, shown = Console(), 0
    with _pressed() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        while count is None or shown < count:
            if not view.paused or not shown:
                view.update()
                shown += 1
            due = time.monotonic() + every
            while (left := due - time.monotonic()) > 0:
                live.update(view.render(console.height), refresh=True)
                for key in pressed(left):
                    if key in ENDING:
                        return
                    view.press(key)


def keys_in(typed: str) -> list[str]:
    """Return the keys in what was typed; sequences of other keys, such as those of arrows, are left out."""
    if typed.startswith("\x1b") and len(typed) > 1:
        return []
    return list(typed)


@contextmanager
def _pressed() -> Iterator[Callable[[float], list[str]]]:
    """Read keys from the terminal; the function waits for some at most so many seconds."""
    import termios
    import tty

    file = sys.stdin.fileno()
    before = termios.tcgetattr(file)
    tty.setcbreak(file)

    def wait(seconds: float) -> list[str]:
        ready, _, _ = select.select([file], [], [], seconds)
        # The descriptor itself: `select` does not see what the text layer has buffered.
        return keys_in(os.read(file, 64).decode(errors="replace") or "\x04") if ready else []

    try:
        yield wait
    finally:
        termios.tcsetattr(file, termios.TCSADRAIN, before)
