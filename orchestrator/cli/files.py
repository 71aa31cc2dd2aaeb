"""Commands on files: `validate`, `render`, `generate`, `graph`, `schema`."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.common import (
    BackendName,
    FileArgument,
    LabOption,
    Output,
    OutputOption,
    SetOption,
    emit,
    notify,
)
from orchestrator.errors import counted


class GraphFormat(StrEnum):
    """How a picture is written."""

    dot = "dot"
    mermaid = "mermaid"
    svg = "svg"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(validate)
    app.command()(render)
    app.command()(generate)
    app.command()(graph)
    app.command()(schema)


def validate(file: FileArgument, set_: SetOption = None, output: OutputOption = Output.table) -> None:
    """Check a topology file; every problem at once, with its place."""
    from orchestrator import plan, topology

    read = topology.load(file, set_ or ())
    topology.check_services(read)
    for warning in read.warnings:
        notify(f"warning: {warning.render()}")
    note = plan.ttl_note(read)
    if note:
        notify(f"note: {note}")
    if output is Output.json:
        emit(
            {
                "file": read.file,
                "name": read.name,
                "nodes": len(read.nodes),
                "links": len(read.links),
                "ok": True,
                "warnings": [warning.as_json() for warning in read.warnings],
            }
        )
    else:
        shape = f"{counted(len(read.nodes), 'node')}, {counted(len(read.links), 'link')}"
        notify(f"{read.file} is fine: {read.name}, {shape}")


def render(
    file: FileArgument,
    directory: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Where to write.")],
    lab: LabOption = None,
    backend: Annotated[BackendName, typer.Option(help="For which backend.")] = BackendName.docker,
    set_: SetOption = None,
    external: Annotated[
        str | None, typer.Option(metavar="NODES", help="Nodes to leave external, for programs of your own.")
    ] = None,
) -> None:
    """Write the files that `up` would start from, and start nothing."""
    from orchestrator import plan, procfs, topology
    from orchestrator import render as rendering

    read = topology.load(file, set_ or ())
    for warning in topology.check_services(read, backend.value):
        notify(f"warning: {warning.render()}")
    external_nodes = topology.select(read, external) if external else ()
    planned = plan.build(
        read,
        lab=lab,
        backend=backend.value,
        run_id="rendered",
        external=external_nodes,
        machine=procfs.own_addresses(),
    )
    written = rendering.write(planned, directory)
    notify(f"wrote {counted(len(written.files), 'file')} to {written.path}")


def generate(
    type_: Annotated[
        str, typer.Argument(metavar="TYPE", help="Such as ring, star, tree, fat_tree, clos, waxman.")
    ],
    n_nodes: Annotated[int | None, typer.Option("--n-nodes", help="How many nodes.")] = None,
    arity: Annotated[int | None, typer.Option(help="Of a tree: children per node.")] = None,
    k: Annotated[int | None, typer.Option("--k", "-k", help="Of a fat tree: ports per switch, even.")] = None,
    dim: Annotated[int | None, typer.Option(help="Of a torus: dimensions.")] = None,
    n: Annotated[int | None, typer.Option("--n", help="Of a torus: nodes along each dimension.")] = None,
    degree: Annotated[int | None, typer.Option(help="Of a random graph: links per node.")] = None,
    left: Annotated[int | None, typer.Option(help="Of a dumbbell: hosts of router 1.")] = None,
    right: Annotated[int | None, typer.Option(help="Of a dumbbell: hosts of router 2.")] = None,
    leaves: Annotated[int | None, typer.Option(help="Of clos: leaf switches.")] = None,
    spines: Annotated[int | None, typer.Option(help="Of clos: spine switches.")] = None,
    hosts: Annotated[int | None, typer.Option(help="Of clos: hosts per leaf switch.")] = None,
    alpha: Annotated[float | None, typer.Option(help="Of waxman: how far links reach, up to 1.")] = None,
    beta: Annotated[float | None, typer.Option(help="Of waxman: how many links, up to 1.")] = None,
    m: Annotated[int | None, typer.Option("--m", help="Of barabasi_albert: links per new node.")] = None,
    name: Annotated[str, typer.Option(help="The lab's name; the type's unless given.")] = "",
    seed: Annotated[int, typer.Option(help="The topology's seed.")] = 1,
    explicit: Annotated[bool, typer.Option("--explicit", help="Write every link out.")] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where to write.")
    ] = None,
) -> None:
    """Write a topology file for a shape."""
    from orchestrator import topology

    given: dict[str, float | None] = {"n_nodes": n_nodes, "arity": arity, "k": k, "dim": dim, "n": n}
    given |= {"degree": degree, "left": left, "right": right, "leaves": leaves, "spines": spines}
    given |= {"hosts": hosts, "alpha": alpha, "beta": beta, "m": m}
    params = {key: value for key, value in given.items() if value is not None}
    put(topology.generate(type_, name=name, explicit=explicit, seed=seed, **params), output)


def graph(
    file: Annotated[
        Path | None, typer.Argument(help="The topology file; the lab that is up unless given.")
    ] = None,
    format_: Annotated[
        GraphFormat | None,
        typer.Option("--format", help="How it is written; as the output file's name ends, or svg."),
    ] = None,
    lab: LabOption = None,
    set_: SetOption = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where to write.")
    ] = None,
) -> None:
    """Draw a topology, or the lab that is up with the states of its nodes."""
    from orchestrator import topology

    format_ = format_ or _format_of(output)
    if file is not None:
        put(topology.graph(topology.load(file, set_ or ()), format_.value), output)
        return
    from orchestrator.lab import Lab

    running = Lab.attach(lab)
    seen = running.status()
    states = {node.id: node.state for node in seen.nodes}
    for problem in seen.problems:
        notify(f"  {problem}")
    put(topology.graph(running.topology, format_.value, states), output)


_ENDINGS = {"svg": GraphFormat.svg, "dot": GraphFormat.dot, "gv": GraphFormat.dot, "mmd": GraphFormat.mermaid}


def _format_of(output: Path | None) -> GraphFormat:
    """Return the format that an output file's name asks for; svg where it says nothing."""
    ending = output.suffix.lstrip(".").lower() if output is not None else ""
    if not ending:
        return GraphFormat.svg
    if ending in _ENDINGS:
        return _ENDINGS[ending]
    from orchestrator.errors import UsageError

    raise UsageError(
        f"a picture cannot be written as `.{ending}`",
        id="usage.graph-format",
        found=str(output),
        expected="a name that ends in .svg, .dot or .mmd, or `--format`",
        hint=f"`nm graph --format dot | dot -T{ending}` draws other formats with Graphviz",
    )


def schema(
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where to write.")
    ] = None,
) -> None:
    """Print the JSON Schema of topology files, for editors."""
    import json

    from orchestrator import topology

    put(json.dumps(topology.schema(), indent=2, ensure_ascii=False) + "\n", output)


def put(text: str, path: Path | None) -> None:
    """Write to a file, or print."""
    if path is None:
        sys.stdout.write(text)
        return
    from orchestrator.errors import HostNotFit

    try:
        path.write_text(text)
    except OSError as error:
        raise HostNotFit(
            f"cannot write {path}: {error.strerror}", id="output.unwritable", found=str(path)
        ) from error
    notify(f"wrote {path}")
