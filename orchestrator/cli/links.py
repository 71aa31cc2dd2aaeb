"""Commands on links: `link set`, `profiles`, `show`, `reset`, `down` and `up`; `partition` and `heal`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

import typer

from orchestrator.cli.common import LabOption, Output, OutputOption, emit, notify, table


class Direction(StrEnum):
    """Which way of a link."""

    both = "both"
    forward = "forward"
    backward = "backward"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    link = typer.Typer(
        help="Look at links and change what they do.", no_args_is_help=True, rich_markup_mode=None
    )
    link.command("set")(set_)
    link.command()(profiles)
    link.command()(show)
    link.command()(reset)
    link.command()(down)
    link.command()(up)
    app.add_typer(link, name="link")
    app.command()(partition)
    app.command()(heal)


End = Annotated[str, typer.Argument(help="Number or name of a node.")]
ForwardOption = Annotated[bool, typer.Option("--forward", help="Only packets from A to B.")]
BackwardOption = Annotated[bool, typer.Option("--backward", help="Only packets from B to A.")]
DirectionOption = Annotated[
    Direction, typer.Option("--direction", help="Which way: forward is from the first node to the second.")
]


def _value(metavar: str, help: str) -> Any:
    return typer.Option(metavar=metavar, help=help)


def set_(
    context: typer.Context,
    a: End,
    b: End,
    profile: Annotated[
        str | None,
        _value("NAME", "A named set of values, see `nm link profiles`; it replaces all that is in force."),
    ] = None,
    rate: Annotated[str | None, _value("RATE", "Such as '20 Mbit'.")] = None,
    burst: Annotated[
        str | None, _value("SIZE", "What may leave back to back after the link was idle, such as '15 KB'.")
    ] = None,
    delay: Annotated[str | None, _value("TIME", "One way, such as '20 ms'.")] = None,
    jitter: Annotated[
        str | None,
        _value("TIME", "Standard deviation of the delay, or '{std: 5 ms, distribution: uniform}'."),
    ] = None,
    loss: Annotated[
        str | None, _value("SHARE", "Such as '0.1 %', or in bursts '{mean: 1 %, burst: 5}'.")
    ] = None,
    duplicate: Annotated[str | None, _value("SHARE", "Packets that arrive twice, such as '0.1 %'.")] = None,
    reorder: Annotated[
        str | None,
        _value("SHARE", "Packets that later ones overtake, '0.5 %' or '{share: 0.5 %, gap: 3}'."),
    ] = None,
    corrupt: Annotated[
        str | None, _value("SHARE", "Packets with one bit of the payload flipped, such as '0.01 %'.")
    ] = None,
    limit: Annotated[
        str | None, _value("QUEUE", "Queue limit: '64 KB', '100 packets' or '20 ms' of the rate.")
    ] = None,
    queue: Annotated[
        str | None, _value("TYPE", "taildrop, red, codel, or '{type: codel, target: 5 ms}'.")
    ] = None,
    ecn: Annotated[str | None, _value("true|false", "Mark ECN-capable packets, not drop them.")] = None,
    scheduler: Annotated[
        str | None,
        _value("TYPE", "fifo, drr, or '{type: drr, by: dst_port, weights: {5201: 1, 5202: 4}}'."),
    ] = None,
    mtu: Annotated[str | None, _value("BYTES", "Largest packet that the link carries.")] = None,
    trace: Annotated[
        str | None,
        _value("FILE", "A trace that sets the rate: FILE, '{file: x.csv, loop: true, scale: 2}', or none."),
    ] = None,
    forward: ForwardOption = False,
    backward: BackwardOption = False,
    direction: DirectionOption = Direction.both,
    lab: LabOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Change what a link does, from now on; what is not named stays as it is."""
    from orchestrator.errors import UsageError
    from orchestrator.lab import Lab
    from orchestrator.topology.link_keys import LIVE_FIELDS
    from orchestrator.topology.links import read_change

    way = _direction(forward, backward, direction)
    values = {key: context.params.get(key) for key in LIVE_FIELDS}
    stated = {key: value for key, value in values.items() if value is not None}
    if not stated:
        options = [f"--{key}" for key in LIVE_FIELDS]
        raise UsageError(
            "nothing to set",
            expected=f"{', '.join(options[:-1])} or {options[-1]}",
            hint="`nm link reset A B` undoes",
        )
    change = read_change(stated)
    in_force = Lab.attach(lab).set_link(
        a, b, change.forward, direction=way, merge=not change.whole, backward=change.backward
    )
    _show_change(a, b, in_force, output)


def profiles(output: OutputOption = Output.table) -> None:
    """List the named sets of values that a link can have as its `profile`."""
    from orchestrator.topology.link_words import describe
    from orchestrator.topology.profiles import PROFILES

    if output is Output.json:
        emit(
            [
                {
                    "name": name,
                    "summary": profile.summary,
                    "source": profile.source,
                    "forward": profile.spec("forward").to_wire(),
                    "backward": profile.spec("backward").to_wire(),
                }
                for name, profile in PROFILES.items()
            ]
        )
        return
    ways = [(profile.spec("forward"), profile.spec("backward")) for profile in PROFILES.values()]
    table(
        ("profile", "what it is", "a → b (downlink)", "b → a (uplink)"),
        [
            (name, profile.summary, describe(there), "same" if there == back else describe(back))
            for (name, profile), (there, back) in zip(PROFILES.items(), ways, strict=True)
        ],
    )


def reset(
    a: Annotated[str | None, typer.Argument(help="Number or name of a node; all links unless given.")] = None,
    b: Annotated[str | None, typer.Argument(help="The other end.")] = None,
    forward: ForwardOption = False,
    backward: BackwardOption = False,
    direction: DirectionOption = Direction.both,
    lab: LabOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Make a link, or all, do again what the topology declares; undoes `set` and `down`, not a partition."""
    from orchestrator.errors import UsageError
    from orchestrator.lab import Lab

    way = _direction(forward, backward, direction)
    if a is None or b is None:
        if a is not None or forward or backward or way != "both":
            raise UsageError("a link has two ends", expected="A and B, or neither for all links")
        change = Lab.attach(lab).reset_links()
        if output is Output.json:
            emit(change)
        else:
            notify(f"reset: {_pairs(change, 'links')}" if change["links"] else "all links were as declared")
        return
    in_force = Lab.attach(lab).set_link(a, b, direction=way, reset=True)
    _show_change(a, b, in_force, output)


def down(
    a: End,
    b: End,
    forward: ForwardOption = False,
    backward: BackwardOption = False,
    lab: LabOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Take a link down, in both directions or in one: its packets are lost, and routes avoid it."""
    from orchestrator.lab import Lab

    link = Lab.attach(lab).link(a, b)
    _show_state(a, b, link.down(_direction(forward, backward)), output)


def up(
    a: End,
    b: End,
    forward: ForwardOption = False,
    backward: BackwardOption = False,
    lab: LabOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Take a link up again that `down` took down."""
    from orchestrator.lab import Lab

    link = Lab.attach(lab).link(a, b)
    _show_state(a, b, link.up(_direction(forward, backward)), output)


def partition(
    groups: Annotated[str, typer.Argument(help="Groups of nodes, such as '1,2|3,4' or '1-4|web*'.")],
    lab: LabOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Take down all links between groups of nodes; nodes in no group keep all their links."""
    from orchestrator.lab import Lab

    change = Lab.attach(lab).partition(groups)
    _show_partition(change, output)
    if output is Output.table:
        for one, other in change["connected"]:
            names = groups.split("|")
            notify(f"  nodes in no group still connect {names[one]} and {names[other]}")
        if "connected_count" in change:
            notify(f"  ... and {change['connected_count'] - len(change['connected'])} more pairs of groups")


def heal(lab: LabOption = None, output: OutputOption = Output.table) -> None:
    """End the partition; links that `nm link down` took down stay down."""
    from orchestrator.lab import Lab

    _show_partition(Lab.attach(lab).heal(), output)


def show(
    a: Annotated[str | None, typer.Argument(help="Only links of this node.")] = None,
    b: Annotated[str | None, typer.Argument(help="Only the link to this node.")] = None,
    lab: LabOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Show what links do now, in each direction."""
    from orchestrator.cli.labs import describe_ways, kind_or_reason
    from orchestrator.errors import ControllerUnreachable, UsageError
    from orchestrator.lab import Lab

    running = Lab.attach(lab)
    wanted = {running.node(end).id for end in (a, b) if end is not None}
    seen = running.status()
    links = [link for link in seen.links if wanted <= {link.a, link.b}]
    if wanted and not links:
        raise UsageError(f"there is no link {'–'.join(map(str, sorted(wanted)))}", id="link.unknown")
    if any(link.forward is None or link.backward is None for link in links):
        raise ControllerUnreachable(
            f"what the links of lab {running.name} do now is not known: {seen.problems[0]}",
            hint="`nm up` with the lab's topology file brings back what is gone",
        )
    if output is Output.json:
        emit([link.details() for link in links])
        return
    table(
        ("a", "b", "state", "kind or reason", "a → b", "b → a"),
        [(str(x.a), str(x.b), x.state, kind_or_reason(x), *describe_ways(x)) for x in links],
    )


def _direction(
    forward: bool, backward: bool, direction: Direction = Direction.both
) -> Literal["both", "forward", "backward"]:
    """Return the direction that is meant, by `--forward` and `--backward` or by `--direction`."""
    from orchestrator.errors import UsageError

    named = Direction.both if forward == backward else Direction.forward if forward else Direction.backward
    if (forward or backward) and direction not in (Direction.both, named):
        options = "--forward --backward" if named is Direction.both else f"--{named.value}"
        raise UsageError(
            f"`--direction {direction.value}` contradicts `{options}`",
            expected="one of `--forward`, `--backward` and `--direction`",
        )
    return (direction if named is Direction.both else named).value


def _pairs(change: dict[str, Any], name: str) -> str:
    """Return the first links of a list in an answer, and how many more there are; long lists come cut."""
    shown = change[name][:8]
    more = change.get(f"{name}_count", len(change[name])) - len(shown)
    return ", ".join(f"{a}–{b}" for a, b in shown) + (f" and {more} more" if more else "")


def _show_state(a: str, b: str, now: dict[str, Any], output: Output) -> None:
    if output is Output.json:
        emit(now)
        return
    why = f" ({now['reason']})" if now["reason"] else ""
    notify(f"{a}–{b} is {now['state']}{why}")
    if now["reason"] == "partition":
        notify("  `nm heal` ends the partition")


def _show_partition(change: dict[str, Any], output: Output) -> None:
    if output is Output.json:
        emit(change)
        return
    for name in ("down", "up"):
        if change[name]:
            notify(f"{name}: {_pairs(change, name)}")
    if not change["down"] and not change["up"]:
        notify("no link changed")


def _show_change(a: str, b: str, in_force: dict[str, Any], output: Output) -> None:
    if output is Output.json:
        emit(in_force)
        return
    from orchestrator.impairment import LinkSpec
    from orchestrator.topology.link_words import describe

    for direction, arrow in (("forward", f"{a} → {b}"), ("backward", f"{b} → {a}")):
        notify(f"{arrow}: {describe(LinkSpec.from_wire(in_force.get(direction)))}")
    if "reason" in in_force:
        notify(f"  not in force while the link is not up: {in_force['reason']}")
