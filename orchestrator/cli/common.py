"""Options and output functions shared by all commands."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.clock import SystemClock

if TYPE_CHECKING:
    from orchestrator.deploy.home import Home

quiet = False
"""Whether `-q` was given: data and errors only. `main` sets it before a command runs."""


class Output(StrEnum):
    """How data is printed."""

    table = "table"
    json = "json"


class BackendName(StrEnum):
    """A backend."""

    docker = "docker"
    native = "native"


def _labs(incomplete: str) -> list[str]:
    return [lab.name for lab in home().labs() if lab.name.startswith(incomplete)]


LabOption = Annotated[
    str | None,
    typer.Option(
        "-n",
        "--lab",
        metavar="LAB",
        help="Which lab; the only one that is up unless given.",
        autocompletion=_labs,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="K=V", help="Override a value, such as defaults.link.rate='10 Mbit'."),
]
ExternalOption = Annotated[
    str | None,
    typer.Option(metavar="NODES", help="Leave these nodes external, for programs of your own."),
]
FileArgument = Annotated[Path, typer.Argument(help="The topology file; - is standard input.")]
OutputOption = Annotated[Output, typer.Option("-o", "--output", help="How data is printed.")]


def home() -> Home:
    """The home of this process."""
    from orchestrator.deploy.home import Home

    return Home.default()


def emit(value: Any) -> None:
    """Print data as JSON, alone on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")
    sys.stdout.flush()


def notify(text: str) -> None:
    """Print a message to stderr, unless `-q` is given."""
    if not quiet:
        print(text, file=sys.stderr)


def table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None, note: str = ""
) -> None:
    """Print a table on stdout: boxed on a terminal, plain columns in a pipe."""
    if sys.stdout.isatty():
        _boxed(columns, rows, title, note)
        return
    lines = [columns, *rows]
    widths = [max(len(str(line[index])) for line in lines) for index in range(len(columns))]
    if title:
        print(title)
    for line in lines:
        print("  ".join(str(cell).ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    if note:
        print(note)


def _boxed(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None, note: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=title, title_justify="left", box=box.ROUNDED, caption=note or None)
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*(Text(str(cell), style=_STYLES.get(str(cell), "")) for cell in row))
    Console().print(shown)


_STYLES = {
    "ready": "green",
    "complete": "green",
    "pass": "bold green",
    "ok": "green",
    "up": "green",
    "degraded": "yellow",
    "starting": "yellow",
    "warning": "yellow",
    "vacant": "cyan",
    "failed": "red",
    "fail": "bold red",
    "error": "bold red",
    "problem": "red",
    "unreachable": "red",
    "timed_out": "red",
}


@contextmanager
def progress(every_s: float = 0.0) -> Iterator[Callable[[str], None]]:
    """Show progress: one updated line on a terminal, a line per change elsewhere.

    Args:
        every_s: Elsewhere than on a terminal, a line at most so often.
    """
    if quiet:
        yield lambda text: None
    elif sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True).status("…") as status:
            yield lambda text: status.update(text.replace("[", r"\["))
    else:
        clock = SystemClock()
        last, said_at = "", clock.monotonic() if every_s else float("-inf")

        def say(text: str) -> None:
            nonlocal last, said_at
            if text != last and clock.monotonic() - said_at >= every_s:
                last, said_at = text, clock.monotonic()
                notify(f"… {text}")

        yield say


def parse_pairs(words: Sequence[str], option: str) -> dict[str, str]:
    """Read `key=value` words.

    Raises:
        UsageError: One has no `=` or no key.
    """
    from orchestrator.errors import UsageError

    pairs = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"`{option} {word}` is no setting", found=word, expected=f"{option} key=value")
        pairs[key.strip()] = value
    return pairs
