"""Commands that change what a lab consists of: `plan`, `node add` and `remove`, `link add` and `remove`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import (
    ExternalOption,
    FileArgument,
    LabOption,
    Output,
    OutputOption,
    SetOption,
    emit,
    home,
    notify,
    parse_pairs,
    progress,
)
from orchestrator.errors import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.lab.changing import Applied
    from orchestrator.lab.planned_change import PlannedChange
    from orchestrator.topology import Topology
    from orchestrator.topology.difference import Entry

READY_S = 60.0
"""How long new nodes may take to be ready; the same in `orchestrator.lab.changing`, which loads more."""

DIFFERS = 2
"""The exit code of `nm plan --exit-code` where there is a difference, as of `terraform plan`."""

ForceOption = Annotated[
    bool, typer.Option("--force", help="Remove explicit routes, groups and flows that use it as well.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(plan)
    groups = {each.name: each.typer_instance for each in app.registered_groups}
    for name, add, remove in (("node", add_node, remove_node), ("link", add_link, remove_link)):
        group = groups[name]
        assert group is not None, "nouns are registered before"
        group.command("add")(add)
        group.command("remove")(remove)


def plan(
    file: FileArgument,
    lab: LabOption = None,
    set_: SetOption = None,
    external: ExternalOption = None,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help=f"Exit with {DIFFERS} if there is a difference.")
    ] = False,
    output: OutputOption = Output.table,
) -> None:
    """Show what `nm up FILE` would change in a lab that is up."""
    from orchestrator import topology

    meant = topology.load(file, set_ or ())
    differs = show_plan(meant, lab, external, output)
    raise typer.Exit(DIFFERS if differs and exit_code else 0)


def show_plan(meant: Topology, lab: str | None, external: str | None, output: Output) -> bool:
    """Print the difference between a lab and a topology; return whether there is one."""
    from orchestrator.lab.changing import plan_of

    found = plan_of(home(), meant, lab, external.split(",") if external else ())
    if output is Output.json:
        emit(found.as_json())
    else:
        for line in lines_of(found.entries):
            print(line)
        notify(_sentence(found))
    return bool(found.difference) or found.interrupted


def lines_of(entries: Sequence[Entry]) -> list[str]:
    """The lines of a difference: `+` is added, `-` is removed, `~` is changed, with its keys."""
    signs = {"add": "+", "remove": "-", "change": "~"}
    lines = []
    for entry in entries:
        keys = ", ".join(f"{key}: {_word(old)} → {_word(new)}" for key, (old, new) in entry.keys.items())
        said = keys if entry.kind == "lab" else f"{entry.what}  {keys}".rstrip()
        fixed = "" if entry.live else "  (needs `nm down` and `nm up`)"
        lines.append(f"{signs[entry.do]} {said}{fixed}")
    return lines


def add_node(
    number: Annotated[
        int | None, typer.Argument(metavar="[ID]", help="Its number; the first free one unless given.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Its name; node-ID unless given.")
    ] = None,
    link: Annotated[
        list[str] | None,
        typer.Option(
            "--link",
            metavar="PEER[,KEY=VALUE…]",
            help="A link to a node, such as '1,delay=5 ms,rate=100 Mbit'; may be given several times.",
        ),
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="A label, for selectors.")
    ] = None,
    external: Annotated[bool, typer.Option("--external", help="Leave it to a program of your own.")] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="S", min=0.1, help="How long it may take to be ready.")
    ] = READY_S,
    lab: LabOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Add a node to a lab that is up; returns when it is ready, with links up and routes to it."""
    from orchestrator.lab import AsyncLab, loop_thread
    from orchestrator.lab.membership import new_link

    running = AsyncLab.attach(lab)
    links = [new_link(word) for word in link or ()]
    labels = parse_pairs(label or (), "--label")
    with progress() as say:
        new = loop_thread.call(
            running.add_node(
                number,
                name=name,
                links=links,
                labels=labels,
                external=external,
                timeout=timeout,
                progress=say,
            )
        )
    node = running.node(new)
    if output is Output.json:
        emit({"id": node.id, "name": node.name, "address": node.address, "external": node.external})
        return
    ready = f"external: nextmini_py.Dataplane({str(node.config)!r})" if external else "ready"
    notify(f"node {node.id} ({node.name}, {node.address}) is {ready}")


def remove_node(
    nodes: Annotated[
        str,
        typer.Argument(metavar="NODE[,NODE…]", help="Numbers, ranges, names, globs or label=value."),
    ],
    force: ForceOption = False,
    lab: LabOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Remove nodes from a lab that is up, with their links; the rest goes on."""
    from orchestrator.lab import AsyncLab, loop_thread

    running = AsyncLab.attach(lab)
    with progress() as say:
        done = loop_thread.call(running.remove_nodes(running.select(nodes), force=force, progress=say))
    show_applied(done, output)


def add_link(
    a: Annotated[str, typer.Argument(help="Number or name of a node.")],
    b: Annotated[str, typer.Argument(help="Number or name of a node.")],
    values: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]…", help="What it does, such as 'delay=5 ms' or 'rate=1 Gbit'."),
    ] = None,
    lab: LabOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Add a link between two nodes of a lab that is up."""
    from orchestrator.lab import AsyncLab, loop_thread

    running = AsyncLab.attach(lab)
    stated = parse_pairs(values or (), "link add")
    show_applied(loop_thread.call(running.add_link(a, b, **stated)), output)


def remove_link(
    a: Annotated[str, typer.Argument(help="Number or name of a node.")],
    b: Annotated[str, typer.Argument(help="Number or name of a node.")],
    force: ForceOption = False,
    lab: LabOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Remove a link from a lab that is up; unlike `down`, it is gone for good."""
    from orchestrator.lab import AsyncLab, loop_thread

    show_applied(loop_thread.call(AsyncLab.attach(lab).remove_link(a, b, force=force)), output)


def show_applied(done: Applied, output: Output) -> None:
    """Say what was changed."""
    if output is Output.json:
        emit(done.as_json())
        return
    for line in lines_of(done.changes):
        notify(line)
    said = f"changed: {_summary(done.changes)}" if done.changes else "as it was"
    notify(f"lab {done.lab} is {said}")


def _sentence(found: PlannedChange) -> str:
    if not found.up:
        return f"lab {found.lab} is not up: `nm up` brings all of it up"
    tail = ""
    if found.interrupted:
        tail = "; a change was interrupted: `nm up` completes or undoes it first"
    if not found.difference:
        return f"lab {found.lab} is what the file says{tail}"
    fixed = sum(not each.live for each in found.entries)
    if fixed:
        tail = f"; {counted(fixed, 'change')} cannot be made while it runs{tail}"
    return f"lab {found.lab} differs: {_summary(found.entries)}{tail}"


def _summary(entries: Sequence[Entry]) -> str:
    done = {"add": "added", "remove": "removed", "change": "changed"}
    counts: dict[tuple[str, str], int] = {}
    for entry in entries:
        counts[entry.kind, entry.do] = counts.get((entry.kind, entry.do), 0) + 1
    words = {"lab": "value of the lab"}
    return ", ".join(f"{counted(n, words.get(kind, kind))} {done[do]}" for (kind, do), n in counts.items())


def _word(value: object) -> str:
    return "none" if value is None else str(value)
