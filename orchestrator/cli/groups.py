"""Commands on multicast groups: `group create`, `list`, `inspect`, `delete`, `join`, `leave` and `tree`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import LabOption, Output, OutputOption, emit, notify, table

if TYPE_CHECKING:
    from orchestrator.lab.groups import Group, GroupTree


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        help="Look at multicast groups and change them.", no_args_is_help=True, rich_markup_mode=None
    )
    group.command()(create)
    group.command("list")(list_)
    group.command()(inspect)
    group.command()(delete)
    group.command()(join)
    group.command()(leave)
    group.command()(tree)
    app.add_typer(group, name="group")


GroupArgument = Annotated[str, typer.Argument(metavar="GROUP", help="Number or name of a group.")]
NodesArgument = Annotated[
    str, typer.Argument(metavar="NODES", help="Numbers, ranges, names, globs, label=value or all.")
]


def create(
    label: Annotated[str, typer.Argument(metavar="NAME", help="The group's name.")],
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The node from which packets come.")],
    members: Annotated[
        str | None, typer.Option(metavar="NODES", help="Nodes that receive them from the start.")
    ] = None,
    lab: LabOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Create a group; one of that name and source that is there already gains the members."""
    from orchestrator.lab import AsyncLab, Lab

    nodes = AsyncLab.attach(lab).select(members) if members is not None else ()
    _show(Lab.attach(lab).groups.create(label, source, nodes), output)


def list_(lab: LabOption = None, output: OutputOption = Output.table) -> None:
    """List all groups."""
    from orchestrator.lab import Lab

    groups = Lab.attach(lab).groups.list()
    if output is Output.json:
        emit([group.as_json() for group in groups])
    elif not groups:
        notify("the lab has no groups")
    else:
        table(
            ("group", "name", "address", "source", "members", "trees"),
            [
                (str(x.id), x.label, x.address, str(x.source), str(len(x.members)), _kind_of_trees(x))
                for x in groups
            ],
        )


def inspect(group: GroupArgument, lab: LabOption = None, output: OutputOption = Output.table) -> None:
    """Show a group with its members and trees."""
    from orchestrator.lab import Lab

    _show(Lab.attach(lab).groups.get(group), output)


def delete(group: GroupArgument, lab: LabOption = None, output: OutputOption = Output.table) -> None:
    """Delete a group with its members and trees."""
    from orchestrator.lab import Lab

    gone = Lab.attach(lab).groups.delete(group)
    if output is Output.json:
        emit(gone.as_json())
    else:
        notify(f"group {gone.id} ({gone.label}) is deleted")


def join(
    group: GroupArgument, nodes: NodesArgument, lab: LabOption = None, output: OutputOption = Output.table
) -> None:
    """Make nodes members of a group."""
    from orchestrator.lab import AsyncLab, Lab

    _show(Lab.attach(lab).groups.join(group, AsyncLab.attach(lab).select(nodes)), output)


def leave(
    group: GroupArgument, nodes: NodesArgument, lab: LabOption = None, output: OutputOption = Output.table
) -> None:
    """Make nodes members no more."""
    from orchestrator.lab import AsyncLab, Lab

    _show(Lab.attach(lab).groups.leave(group, AsyncLab.attach(lab).select(nodes)), output)


def tree(
    group: GroupArgument,
    edges: Annotated[
        list[str] | None,
        typer.Option(
            metavar="EDGES", help="A tree such as '1-2,2-3', from the source on; several trees share traffic."
        ),
    ] = None,
    weight: Annotated[
        list[float] | None, typer.Option(metavar="W", help="The share of each tree, in the same order.")
    ] = None,
    compute: Annotated[
        bool, typer.Option("--compute", help="Set the shortest paths to the members as they are now.")
    ] = False,
    reset: Annotated[
        bool, typer.Option("--reset", help="Compute it, again with every change of members and links.")
    ] = False,
    lab: LabOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Set the trees over which a group's packets travel, or go back to computed ones."""
    from orchestrator.errors import UsageError
    from orchestrator.lab import Lab

    if (bool(edges), compute, reset).count(True) != 1:
        raise UsageError("which tree?", expected="one of --edges, --compute and --reset")
    groups = Lab.attach(lab).groups
    if edges:
        _show(groups.set_trees(group, _trees(edges, weight or [])), output)
    else:
        _show(groups.compute_tree(group) if compute else groups.reset_trees(group), output)


def _trees(texts: list[str], weights: list[float]) -> list[GroupTree]:
    """Read `--edges` and `--weight`.

    Raises:
        UsageError: One is no tree, or there are weights for some trees only.
    """
    from orchestrator.errors import UsageError
    from orchestrator.lab.groups import GroupTree

    if weights and len(weights) != len(texts):
        raise UsageError(
            f"{len(weights)} weights for {len(texts)} trees", expected="a --weight for each --edges, or none"
        )
    shares: list[float | None] = [*weights] or [None] * len(texts)
    trees = []
    for number, (text, share) in enumerate(zip(texts, shares, strict=True)):
        pairs = [part.strip().split("-") for part in text.split(",")]
        if not all(len(pair) == 2 and all(end.strip().isdecimal() for end in pair) for pair in pairs):
            raise UsageError(
                f"`{text}` is no list of edges", found=text, expected="pairs of node ids such as '1-2,2-3'"
            )
        trees.append(GroupTree(number, tuple((int(a), int(b)) for a, b in pairs), share))
    return trees


def _kind_of_trees(group: Group) -> str:
    return f"{len(group.trees)} set" if group.explicit else "computed"


def _show(group: Group, output: Output) -> None:
    if output is Output.json:
        emit(group.as_json())
        return
    members = ", ".join(map(str, group.members)) or "none"
    notify(f"group {group.id} ({group.label}), {group.address}, from node {group.source} to {members}")
    for each in group.trees:
        edges = ", ".join(f"{a} → {b}" for a, b in each.edges)
        share = f", weight {each.weight:g}" if each.weight is not None else ""
        notify(f"  tree {each.tree_id} ({'set' if group.explicit else 'computed'}{share}): {edges}")
