"""Commands on links: `link set`, `show`, `reset`, `down` and `up`; `partition` and `heal`."""

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


def set_(
    a: End,
    b: End,
    rate: Annotated[str | None, typer.Option(metavar="RATE", help="Such as '20 Mbit'.")] = None,
    delay: Annotated[str | None, typer.Option(metavar="TIME", help="One way, such as '20 ms'.")] = None,
    jitter: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Standard deviation of the delay, or '{std: 5 ms, distribution: uniform}'."
        ),
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(metavar="SHARE", help="Such as '0.1 %', or in bursts '{mean: 1 %, burst: 5}'."),
    ] = None,
    limit: Annotated[
        str | None, typer.Option(metavar="QUEUE", help="Queue limit: '64 KB' or '100 packets'.")
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

    way = _direction(forward, backward, direction)
    spec = _spec(rate, delay, jitter, loss, limit)
    if spec.is_plain:
        raise UsageError(
            "nothing to set",
            expected="--rate, --delay, --jitter, --loss or --limit",
            hint="`nm link reset A B` undoes",
        )
    in_force = Lab.attach(lab).set_link(a, b, spec, direction=way)
    _show_change(a, b, in_force, output)


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
        emit(
            [
                {
                    "a": link.a,
                    "b": link.b,
                    "state": link.state,
                    "kind": link.kind,
                    "reason": link.reason,
                    "down": link.down,
                    "forward": link.forward and link.forward.to_wire(),
                    "backward": link.backward and link.backward.to_wire(),
                }
                for link in links
            ]
        )
        return
    table(
        ("a", "b", "state", "kind or reason", "a → b", "b → a"),
        [(str(x.a), str(x.b), x.state, kind_or_reason(x), *describe_ways(x)) for x in links],
    )


def _spec(
    rate: str | None, delay: str | None, jitter: str | None, loss: str | None, limit: str | None
) -> Any:
    from orchestrator import units
    from orchestrator.errors import UnitInvalid, UsageError
    from orchestrator.impairment import LinkSpec

    values: dict[str, Any] = {}
    try:
        if rate is not None:
            values["rate_bps"] = units.parse_rate(rate).bps
        if delay is not None:
            values["delay_us"] = units.parse_duration(delay).us
        if jitter is not None:
            values |= _mapping("jitter", jitter) or {"jitter_us": units.parse_duration(jitter).us}
        if loss is not None:
            values |= _mapping("loss", loss) or {"loss": units.parse_fraction(loss)}
        if limit is not None:
            queue = units.parse_limit(limit)
            values |= {"limit_bytes": queue.bytes, "limit_packets": queue.packets}
        return LinkSpec(**values)
    except UnitInvalid:
        raise
    except ValueError as error:
        raise UsageError(str(error), id="link.value") from error


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


def _mapping(key: str, text: str) -> dict[str, Any]:
    """Read a value that is a mapping, as in the topology file; empty if it is not one."""
    if not text.lstrip().startswith("{"):
        return {}
    from orchestrator.topology.links import read_value

    return read_value(key, text, f"--{key}").to_wire()


def _show_change(a: str, b: str, in_force: dict[str, Any], output: Output) -> None:
    if output is Output.json:
        emit(in_force)
        return
    from orchestrator.cli.labs import describe
    from orchestrator.impairment import LinkSpec

    for direction, arrow in (("forward", f"{a} → {b}"), ("backward", f"{b} → {a}")):
        notify(f"{arrow}: {describe(LinkSpec.from_wire(in_force.get(direction)))}")
    if "reason" in in_force:
        notify(f"  not in force while the link is not up: {in_force['reason']}")
