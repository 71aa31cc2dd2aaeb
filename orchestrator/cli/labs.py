"""Commands on labs: `up`, `down`, `inspect`, `labs`, `gc`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from orchestrator.cli import changes, flows, interrupts, status
from orchestrator.cli.common import (
    BackendName,
    ExternalOption,
    FileArgument,
    LabOption,
    Output,
    OutputOption,
    SetOption,
    emit,
    home,
    notify,
    progress,
    table,
)
from orchestrator.cli.status import print_services
from orchestrator.errors import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.impairment import LinkSpec
    from orchestrator.lab import Lab, LabStatus, LinkInfo, UpResult
    from orchestrator.lab.down import DownResult


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(up)
    app.command("deploy", hidden=True, help="Another word for `up`.")(up)
    app.command()(down)
    app.command("destroy", hidden=True, help="Another word for `down`.")(down)
    app.command()(status.status)
    app.command()(inspect)
    app.command()(labs)
    app.command()(gc)


def up(
    file: FileArgument,
    lab: LabOption = None,
    backend: Annotated[
        BackendName | None, typer.Option(help="What carries the lab; docker where an engine answers.")
    ] = None,
    set_: SetOption = None,
    external: ExternalOption = None,
    timeout: Annotated[
        float, typer.Option(min=1, metavar="S", help="Seconds until it has to be ready.")
    ] = 120.0,
    processes: Annotated[
        str | None,
        typer.Option(
            metavar="N|each",
            help="native: spread the nodes over so many host processes; `each`: one per node.",
        ),
    ] = None,
    restart: Annotated[
        bool,
        typer.Option(
            "--restart/--no-restart", help="Start parts of the lab again that end, such as killed ones."
        ),
    ] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would change, as `nm plan` does.")
    ] = False,
    timings: Annotated[bool, typer.Option("--timings", help="Say where the time went.")] = False,
    output: OutputOption = Output.table,
) -> None:
    """Bring a topology up; returns when every node is ready. A lab that is up becomes what the file says."""
    from orchestrator import topology
    from orchestrator.lab import Lab

    meant = topology.load(file, set_ or ())
    for warning in meant.warnings:
        notify(f"warning: {warning.render()}")
    if dry_run:
        changes.show_plan(meant, lab, external, output)
        return
    with progress() as say:
        running = Lab.up(
            meant,
            name=lab,
            backend=backend.value if backend else None,
            external=external.split(",") if external else (),
            timeout=timeout,
            processes=_process_count(processes),
            restart=restart,
            progress=say,
        )
        interrupts.ignore_signals()  # the lab is up: a later signal must not change the exit code
    _say_what_is_up(running, timings)
    if output is Output.json:
        emit(running.status().as_json())


def _say_what_is_up(running: Lab, timings: bool) -> None:
    result = running.result
    assert result is not None, "this object brought it up"
    for warning in result.warnings:
        notify(f"warning: {warning.render()}")
    for line in changes.lines_of(result.changed.entries) if result.changed else ():
        notify(line)
    notify(_up_sentence(result))
    for node in running.nodes:
        if node.external:
            notify(f"  external node {node.id} ({node.name}): nextmini_py.Dataplane({str(node.config)!r})")
    if timings:
        for step, seconds in result.timings.items():
            notify(f"  {step:<8} {seconds:7.3f} s")


def down(
    file: Annotated[Path | None, typer.Argument(help="The topology file whose lab is meant.")] = None,
    lab: LabOption = None,
    all_: Annotated[bool, typer.Option("--all", help="Take every lab down.")] = False,
    output: OutputOption = Output.table,
) -> None:
    """Take a lab down, and verify that nothing is left."""
    from orchestrator.lab import loop_thread
    from orchestrator.lab.down import take_all_down, take_down

    with progress() as say:
        if all_:
            results = loop_thread.call(take_all_down(home(), say))
        else:
            name = _name_to_take_down(file, lab)
            results = [loop_thread.call(take_down(home(), name, say))] if name else []
    _show_removed(results, output, otherwise="no lab is up, nothing to do")


def inspect(lab: LabOption = None, output: OutputOption = Output.table) -> None:
    """Show all that is known of a lab: parts, links and what they do, groups, runs."""
    from orchestrator.errors import NmError
    from orchestrator.lab import Lab

    running = Lab.attach(lab)
    seen = running.status()
    try:
        found = running.flows.list()
    except NmError:  # the status says that the controller does not answer
        found = None
    if output is Output.json:
        emit({**seen.details(), "flows": None if found is None else flows.as_json(found)})
        return
    _print_details(seen)
    if found:
        flows.print_flows(found, "flows")


def labs(output: OutputOption = Output.table) -> None:
    """List all labs that are up."""
    from orchestrator.lab import Lab

    found = Lab.list(home=home())
    rows = [
        {"lab": each.lab, "backend": each.backend, "state": each.state, "nodes": len(each.nodes)}
        for each in found
    ]
    if output is Output.json:
        emit(rows)
    elif not rows:
        notify("no lab is up")
    else:
        table(("lab", "backend", "state", "nodes"), [[str(value) for value in row.values()] for row in rows])


def gc(output: OutputOption = Output.table) -> None:
    """Remove leftovers of labs that crashed or were interrupted while starting; nothing else."""
    from orchestrator.lab import loop_thread
    from orchestrator.lab.down import collect_garbage

    with progress() as say:
        results = loop_thread.call(collect_garbage(home(), say))
    _show_removed(results, output, otherwise="nothing to collect")


def _show_removed(results: Sequence[DownResult], output: Output, otherwise: str) -> None:
    """Say what was removed; or `otherwise`, where there was nothing."""
    for result in results:
        notify(_down_sentence(result))
    if not results:
        notify(otherwise)
    if output is Output.json:
        emit([_down_json(result) for result in results])


def _process_count(word: str | None) -> int | Literal["each"] | None:
    from orchestrator.errors import UsageError

    if word is None or word == "each":
        return word  # type: ignore[return-value]  # mypy does not narrow a str to a literal by comparison
    if not word.isdecimal() or int(word) < 1:
        raise UsageError(
            f"`--processes {word}` is no number of processes",
            id="usage.processes",
            found=word,
            expected="a number from 1, or `each`",
        )
    return int(word)


def _name_to_take_down(file: Path | None, lab: str | None) -> str | None:
    """Which lab is meant; None when there is none, which is fine."""
    from orchestrator.errors import LabNotFound, UsageError
    from orchestrator.lab.find import find_lab

    if lab is not None:
        return lab
    if file is not None:
        from orchestrator import topology

        if not file.exists() and any(lab.name == str(file) for lab in home().labs()):
            raise UsageError(
                f"`{file}` is a lab, but `down` takes a topology file",
                id="usage.lab-as-file",
                found=str(file),
                hint=f"`nm down -n {file}`",
            )
        return topology.load(file).name
    names = [each.name for each in home().labs()]
    if len(names) == 1:
        return names[0]
    try:
        return find_lab(home(), None)[1].lab
    except LabNotFound as error:
        if error.id == "lab.ambiguous":
            raise
        return None


def _up_sentence(result: UpResult) -> str:
    state = result.state
    nodes = counted(sum(1 for node in state.nodes if not node.external), "node")
    if result.already:
        return f"lab {state.lab} is already up: {nodes}, {state.backend}"
    seconds = result.timings.get("total", 0.0)
    if result.changed:
        return f"lab {state.lab} is what the file says after {seconds:.1f} s: {nodes}, {state.backend}"
    if result.repaired:
        return f"lab {state.lab} is up again after {seconds:.1f} s, restarted: {', '.join(result.repaired)}"
    return f"lab {state.lab} is up: {nodes}, {state.backend}, ready after {seconds:.1f} s"


def _down_sentence(result: DownResult) -> str:
    if not result.found:
        return f"lab {result.lab} was not up, nothing is left of it"
    return f"lab {result.lab} is down, nothing is left of it"


def _down_json(result: DownResult) -> dict[str, Any]:
    return {"lab": result.lab, "found": result.found, "removed": list(result.ended)}


def _print_details(seen: LabStatus) -> None:
    details = seen.details()
    for key in ("lab", "backend", "state", "topology", "seed", "created", "controller", "subnet", "ttl_mode"):
        if details[key] is not None:
            print(f"{key:<11} {details[key]}")
    _print_settings(details)
    table(
        ("part", "running", "detail"),
        [(part.role, "yes" if part.running else "no", part.detail) for part in seen.parts],
        "parts",
    )
    table(
        ("id", "name", "state", "address", "IPv6 address", "external", "waits for"),
        [
            (str(n.id), n.name, n.state, n.address, n.address6 or "", "yes" if n.external else "", n.why)
            for n in seen.nodes
        ],
        "nodes",
    )
    table(
        ("a", "b", "state", "kind or reason", "a → b", "b → a"),
        [(str(x.a), str(x.b), x.state, kind_or_reason(x), *describe_ways(x)) for x in seen.links],
        "links",
    )
    print_services(seen)
    if seen.groups:
        table(
            ("group", "address", "source", "label", "members"),
            [
                (str(g.group_id), g.group_ip, str(g.src_node_id), g.label, ", ".join(map(str, g.members)))
                for g in seen.groups
            ],
            "groups",
        )
    if seen.runs:
        table(
            ("run", "scenario", "state", "reason"),
            [(run.run, run.scenario, run.state, run.reason) for run in seen.runs],
            "runs",
        )
    for what, known in (("groups", seen.groups), ("runs", seen.runs)):
        if known is None:
            print(f"{what:<11} unknown")
    for problem in seen.problems:
        notify(f"  {problem}")


def _print_settings(details: dict[str, Any]) -> None:
    """Print how far TCP buffers grow, and what single nodes have besides."""
    from orchestrator import units

    shared = details["tcp_buffers"] or {}
    most = {key.rpartition("tcp_")[2]: units.Size(int(value.split()[-1])) for key, value in shared.items()}
    said = ", ".join(f"{key} up to {size}" for key, size in most.items())
    print(f"{'tcp buffers':<11} {said or 'as the kernel has them'}")
    own = [(node["id"], key, value) for node in details["nodes"] for key, value in node["sysctls"].items()]
    rows = [(str(node), key, value) for node, key, value in own if shared.get(key) != value]
    if rows:
        table(("node", "setting", "value"), rows, "kernel settings")
    behind = [(str(node["id"]), prefix) for node in details["nodes"] for prefix in node["prefixes"]]
    if behind:
        table(("node", "prefix"), behind, "networks behind nodes")
    uplinks = [str(node["id"]) for node in details["nodes"] if node["uplink"]]
    if uplinks:
        print(f"{'uplinks':<11} {', '.join(uplinks)}")


def kind_or_reason(link: LinkInfo) -> str:
    """What carries a link, or why it is not up or not up in one direction."""
    return link.reason if link.down else link.kind or link.reason


def describe_ways(link: LinkInfo) -> tuple[str, str]:
    """What both directions of a link do, in words."""
    return (
        "down" if link.down in ("both", "forward") else _describe(link.forward),
        "down" if link.down in ("both", "backward") else _describe(link.backward),
    )


def _describe(spec: LinkSpec | None) -> str:
    """Describe one direction, and the default limit of its queue if that applies."""
    from orchestrator import units
    from orchestrator.topology.link_words import describe

    if spec is None:
        return "unknown"
    limit = spec.queue_limit_bytes
    is_default = limit is not None and not any(name.startswith("limit_") for name in spec.to_wire())
    return describe(spec) + (f", queue {units.Size(limit)} by default" if is_default and limit else "")
