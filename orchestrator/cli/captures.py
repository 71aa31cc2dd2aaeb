"""The command that captures packets: `capture`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import LabOption, Output, OutputOption, emit, home, notify

if TYPE_CHECKING:
    from orchestrator.capture import Recorded
    from orchestrator.lab.capture import Capture


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(capture)


def capture(
    node: Annotated[str | None, typer.Argument(metavar="[NODE]", help="Number or name.")] = None,
    link: Annotated[
        tuple[str, str] | None,
        typer.Option("--link", metavar="A B", help="Both directions of the link between two nodes instead."),
    ] = None,
    write: Annotated[
        str | None,
        typer.Option(
            "-w",
            "--write",
            metavar="FILE|-",
            help="The pcapng file, `-` for stdout; LAB-node-N.pcapng or LAB-link-A-B.pcapng unless given.",
        ),
    ] = None,
    filter_: Annotated[
        str, typer.Option("--filter", metavar="EXPR", help="Which packets, in tcpdump's language.")
    ] = "",
    duration: Annotated[
        float | None, typer.Option(metavar="S", help="End after so many seconds; else with Ctrl-C.")
    ] = None,
    limit: Annotated[
        str | None, typer.Option(metavar="SIZE", help="End when the file has so much, such as `100 MB`.")
    ] = None,
    snaplen: Annotated[
        int | None, typer.Option(metavar="BYTES", help="Keep so much of each packet; all unless given.")
    ] = None,
    lab: LabOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Write packets of a node, or of a link before and after its emulation, as pcapng."""
    from orchestrator.lab import find
    from orchestrator.lab.capture import CaptureOptions, capture_one
    from orchestrator.lab.run import load_topology

    to_stdout = write == "-"
    _check_stdout(to_stdout, output)
    CaptureOptions.of(filter_)  # an expression that does not parse is said without a lab, too
    directory, state = find.find_lab(home(), lab)
    what = f"link-{link[0]}-{link[1]}" if link else f"node-{node}"
    file = Path(write or f"{state.lab}-{what}.pcapng")
    running = capture_one(
        directory,
        state,
        load_topology(directory),
        sys.stdout.fileno() if to_stdout else file,
        {
            "node": node,
            "link": link,
            "filter": filter_,
            "limit": limit,
            "snaplen": snaplen,
            "duration_s": duration,
        },
        notify,
    )
    notify(_begun(what, "stdout" if to_stdout else str(file), duration))
    recorded = _until_end(running)
    if output is Output.json:
        emit({"file": str(file), **recorded.as_json()})
        return
    notify(_said(recorded))


def _check_stdout(to_stdout: bool, output: Output) -> None:
    from orchestrator.errors import UsageError

    if to_stdout and sys.stdout.isatty():
        raise UsageError(
            "a capture is not for a terminal",
            id="capture.terminal",
            expected="`-w FILE`, or a program behind a pipe",
            hint="`nm capture 1 -w - | tshark -r -`",
        )
    if to_stdout and output is Output.json:
        raise UsageError(
            "stdout cannot have the packets and JSON at once",
            id="capture.stdout",
            expected="`-w FILE` with `-o json`",
        )


def _until_end(running: Capture) -> Recorded:
    """Wait for the end of a capture; an interrupt is its usual end."""
    try:
        while (recorded := running.wait(0.5)) is None:
            pass
    except KeyboardInterrupt:
        return running.stop()
    return recorded


def _begun(what: str, where: str, duration_s: float | None) -> str:
    until = "Ctrl-C ends it" if duration_s is None else f"for {duration_s:g} s"
    return f"capturing {what} into {where}; {until}"


def _said(recorded: Recorded) -> str:
    reasons = {
        "duration": "the time is over",
        "limit": "the limit of its size is reached",
        "stopped": "interrupted",
        "reader": "the reader went away",
        "nodes": "no node is left",
    }
    lines = [
        f"{recorded.total('packets')} packets in {recorded.seconds:.1f} s, {recorded.size} bytes written"
        f" ({reasons[recorded.ended]})"
    ]
    for each in recorded.interfaces:
        missed = f", {each['missed']} missed" if each["missed"] else ""
        lines.append(f"  {each['name']}: {each['packets']} packets, {each['bytes']} bytes{missed}")
    return "\n".join(lines)
