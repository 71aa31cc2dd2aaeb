"""Commands that stop, start and pause nodes: `node kill`, `stop`, `start`, `pause` and `unpause`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import LabOption, Output, OutputOption, emit, notify

if TYPE_CHECKING:
    from orchestrator.lab.node_faults import Action

BACK_S = 30.0
"""How long nodes may take to be ready again; the same in `orchestrator.lab.node_faults`, which loads more."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    node = typer.Typer(
        help="Stop, start, pause and resume nodes.", no_args_is_help=True, rich_markup_mode=None
    )
    node.command()(kill)
    node.command()(stop)
    node.command()(start)
    node.command()(pause)
    node.command()(unpause)
    app.add_typer(node, name="node")


Nodes = Annotated[
    str,
    typer.Argument(metavar="NODE[,NODE…|all]", help="Numbers, ranges, names, globs, label=value or all."),
]
TimeoutOption = Annotated[
    float, typer.Option("--timeout", metavar="S", min=0.1, help="How long it may take to be ready again.")
]


def kill(nodes: Nodes, lab: LabOption = None, output: OutputOption = Output.table) -> None:
    """End nodes and their programs at once; their links go down, and they stay stopped until `start`."""
    _act(nodes, "kill", BACK_S, lab, output)


def stop(nodes: Nodes, lab: LabOption = None, output: OutputOption = Output.table) -> None:
    """End nodes in order: their programs are asked to end first; they stay stopped until `start`."""
    _act(nodes, "stop", BACK_S, lab, output)


def start(
    nodes: Nodes, timeout: TimeoutOption = BACK_S, lab: LabOption = None, output: OutputOption = Output.table
) -> None:
    """Start stopped nodes again, with the addresses, links, routes and groups that they had."""
    _act(nodes, "start", timeout, lab, output)


def pause(nodes: Nodes, lab: LabOption = None, output: OutputOption = Output.table) -> None:
    """Stop the packet processing and the programs of nodes where they are; links and routes stay."""
    _act(nodes, "pause", BACK_S, lab, output)


def unpause(
    nodes: Nodes, timeout: TimeoutOption = BACK_S, lab: LabOption = None, output: OutputOption = Output.table
) -> None:
    """Let paused nodes go on."""
    _act(nodes, "unpause", timeout, lab, output)


def _act(words: str, do: Action, timeout: float, lab: str | None, output: Output) -> None:
    from orchestrator.lab import AsyncLab, loop_thread

    running = AsyncLab.attach(lab)
    outside = running.left_out(words)
    if outside:
        notify(f"left out, because nm does not run external nodes: {', '.join(map(str, outside))}")
    done = loop_thread.call(running.act_on_nodes(running.select(words), do, timeout_s=timeout))
    if output is Output.json:
        emit(done.as_json())
        return
    now, before = f"is {done.state}", f"was already {done.state}"
    if done.state == "running":
        now, before = "is ready", "runs already"
    for ids, says in ((done.changed, now), (done.already, before)):
        for node in ids[:8]:
            notify(f"node {node} {says}")
        if len(ids) > 8:
            notify(f"and {len(ids) - 8} more")
