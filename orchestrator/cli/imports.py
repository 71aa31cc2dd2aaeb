"""Commands that turn files of other programs into topology files: `import`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import notify
from orchestrator.cli.files import put
from orchestrator.errors import counted

if TYPE_CHECKING:
    from orchestrator.importers.draft import Imported

NOT_CARRIED_OVER = 3
"""The exit code with `--strict`."""

OutputFile = Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where to write.")]
Name = Annotated[str, typer.Option("--name", help="The lab's name; that of the file unless given.")]
Strict = Annotated[
    bool,
    typer.Option("--strict", help="Exit 3 when something could not be carried over; the file is written."),
]


class Shape(StrEnum):
    """How the nodes of a Compose file's services are linked."""

    star = "star"
    ring = "ring"
    line = "line"
    full_mesh = "full_mesh"


def register(app: typer.Typer) -> None:
    """Add the commands, and `topology import` as another way to write them."""
    bring = typer.Typer(
        help="Turn files of other programs into topology files.", no_args_is_help=True, rich_markup_mode=None
    )
    for command in (compose, containerlab, netlab, graphml, csv, nextmini):
        bring.command()(command)
    app.add_typer(bring, name="import")
    topology = typer.Typer(help="The same as `nm import`.", no_args_is_help=True, rich_markup_mode=None)
    topology.add_typer(bring, name="import")
    app.add_typer(topology, name="topology", hidden=True)


def compose(
    file: Annotated[Path, typer.Argument(help="The Compose file; - is standard input.")],
    shape: Annotated[
        Shape, typer.Option("--topology", help="How nodes are linked; a star has a hub without a service.")
    ] = Shape.star,
    name: Name = "",
    output: OutputFile = None,
    strict: Strict = False,
) -> None:
    """Give each service of a Compose file a node, and keep the services."""
    from orchestrator import importers

    directory = output.parent if output is not None else None
    imported = importers.from_compose(file, shape=shape.value, name=name, directory=directory)
    _hand_over(imported, output, strict)


def containerlab(
    file: Annotated[Path, typer.Argument(help="The containerlab file; - is standard input.")],
    name: Name = "",
    output: OutputFile = None,
    strict: Strict = False,
) -> None:
    """Take over nodes, labels and links of a containerlab file."""
    from orchestrator import importers

    _hand_over(importers.from_containerlab(file, name=name), output, strict)


def netlab(
    file: Annotated[Path, typer.Argument(help="The netlab file; - is standard input.")],
    name: Name = "",
    output: OutputFile = None,
    strict: Strict = False,
) -> None:
    """Take over nodes, groups, links and their impairments of a netlab file."""
    from orchestrator import importers

    _hand_over(importers.from_netlab(file, name=name), output, strict)


def graphml(
    file: Annotated[Path, typer.Argument(help="The GraphML file, such as one of the Topology Zoo.")],
    delay_from_distance: Annotated[
        bool,
        typer.Option(
            help="Give links between nodes with coordinates the delay of light in fiber over their distance."
        ),
    ] = True,
    name: Name = "",
    output: OutputFile = None,
    strict: Strict = False,
) -> None:
    """Take over nodes, links, rates and distances of a graph in GraphML."""
    from orchestrator import importers

    imported = importers.from_graphml(file, name=name, delay_from_distance=delay_from_distance)
    _hand_over(imported, output, strict)


def csv(
    file: Annotated[Path, typer.Argument(help="The table: columns a, b, and keys of a link.")],
    name: Name = "",
    output: OutputFile = None,
    strict: Strict = False,
) -> None:
    """Take over links from a CSV table, one each line."""
    from orchestrator import importers

    _hand_over(importers.from_csv(file, name=name), output, strict)


def nextmini(
    directory: Annotated[Path, typer.Argument(help="The folder with Nextmini's controller and node files.")],
    output: OutputFile = None,
    strict: Strict = False,
) -> None:
    """Take over Nextmini's own controller and node files."""
    from orchestrator import importers

    _hand_over(importers.from_nextmini(directory), output, strict)


def _hand_over(imported: Imported, output: Path | None, strict: bool) -> None:
    """Say what was not carried over and what was decided, and write the file or print it."""
    for sentence in imported.notes:
        notify(f"not carried over: {sentence}")
    for sentence in imported.remarks:
        notify(f"note: {sentence}")
    put(imported.text, output)
    if strict and imported.notes:
        notify(f"{counted(len(imported.notes), 'note')} above, and `--strict` was given")
        raise typer.Exit(NOT_CARRIED_OVER)
