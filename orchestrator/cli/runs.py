"""Commands on scenarios: `run scenario`, `scenarios`, `new scenario`."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli import sweeps
from orchestrator.cli.common import (
    BackendName,
    LabOption,
    Output,
    OutputOption,
    emit,
    home,
    notify,
    parse_pairs,
    progress,
    table,
)
from orchestrator.cli.reports import report_if_cut_short, write_report
from orchestrator.cli.run_plan import show_plan
from orchestrator.cli.simulated import require_no_lab, run_simulated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator.deploy.state import Backend
    from orchestrator.lab import Lab
    from orchestrator.lab.sweep_plan import Carrier
    from orchestrator.protocol.messages import RunEvent
    from orchestrator.results import RunOutcome
    from orchestrator.topology import Topology


def register(app: typer.Typer) -> None:
    """Add the commands."""
    run = typer.Typer(help="Run an experiment.", no_args_is_help=True, rich_markup_mode=None)
    run.command("scenario")(run_scenario)
    app.add_typer(run, name="run")
    app.command()(scenarios)
    new = typer.Typer(help="Write a starting point.", no_args_is_help=True, rich_markup_mode=None)
    new.command("scenario")(new_scenario)
    app.add_typer(new, name="new")


def _shipped(incomplete: str) -> list[str]:
    from orchestrator.scenario import shipped

    return [name for name in shipped() if name.startswith(incomplete)]


def run_scenario(
    scenario: Annotated[
        str | None,
        typer.Argument(metavar="NAME|DIR", help="A shipped scenario, or a folder.", autocompletion=_shipped),
    ] = None,
    lab: LabOption = None,
    param: Annotated[
        list[str] | None, typer.Option("-p", "--param", metavar="K=V", help="A parameter's value.")
    ] = None,
    topology: Annotated[
        Path | None,
        typer.Option("--topology", metavar="FILE", help="Bring this up for the run if no lab is up."),
    ] = None,
    backend: Annotated[
        BackendName | None, typer.Option(help="What carries a lab brought up for the run.")
    ] = None,
    simulate: Annotated[
        bool,
        typer.Option("--simulate", help="Run it on a simulated network, in virtual time, without a lab."),
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave a lab up that was brought up for the run.")
    ] = False,
    results: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the run gets a folder of its own; `results` unless given."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The run's seed; the lab's unless given.")] = None,
    timeout: Annotated[float | None, typer.Option(min=0.1, metavar="S", help="The run's time limit.")] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check everything, print timeline and traffic, and start nothing."),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 6 when links did not do what was requested.")
    ] = False,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Draw the run's plots and write report.html.")
    ] = True,
    repeat: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Run it so often, each time with another seed.")
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=A,B", help="Run it with each value of a parameter or key of the topology."),
    ] = None,
    plot: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="What a sweep plots, as COLUMN or ROLE.COLUMN.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Make the runs of this sweep that are missing.")
    ] = None,
    output: OutputOption = Output.table,
) -> None:
    """Run a scenario in the lab that is up, or in one brought up for it; exit 1 when a check fails."""
    from orchestrator.errors import FidelityBroken

    params = parse_pairs(param or [], "--param")
    if simulate:
        given = {"--backend": backend, "-n": lab, "--keep": keep, "--strict": strict}
        require_no_lab({name: bool(value) for name, value in given.items()})
    if resume is not None or sweep or (repeat or 1) > 1:
        sweeps.require_no_more({"--dry-run": dry_run, "--keep": keep, "--strict": strict})
        from orchestrator.lab.sweep_plan import SweepOptions

        carrier: Carrier | None = "simulated" if simulate else backend.value if backend else None
        wanted = SweepOptions(sweep or [], repeat, params, topology, carrier, results, seed, timeout, plot)
        if resume is not None:
            folder = sweeps.resume(resume, scenario, wanted)
        else:
            same = partial(_require_same_lab, file=topology, backend=backend)
            folder = sweeps.new(sweeps.given(scenario), lab, wanted, same)
        on_event = _progress_reporter(lambda _what: None)
        raise typer.Exit(sweeps.run(folder, output, plot, on_event, report=report))
    scenario = sweeps.given(scenario)
    if dry_run:
        show_plan(scenario, lab, topology, params, timeout, output, seed, simulate=simulate)
        return
    if simulate:
        outcome = run_simulated(
            scenario, topology, params, results, seed, timeout, _progress_reporter, report=report
        )
        _show_with_report(outcome, output, report=report)
        raise typer.Exit(_exit_code(outcome))
    running, ours = _lab_for(scenario, lab, topology, backend)
    with (
        report_if_cut_short(results or Path("results"), enabled=report) as seen,
        _taken_down(running if ours and not keep else None),
        progress(every_s=2.0) as say,
    ):
        outcome = running.run_scenario(
            scenario,
            params=params,
            results=results,
            seed=seed,
            timeout=timeout,
            on_event=seen(_progress_reporter(say)),
        )
    outcome = _show_with_report(outcome, output, report=report)
    if ours:
        _report_kept_lab(running.name, outcome, kept=keep)
    code = _exit_code(outcome)
    if strict and outcome.ok and outcome.fidelity.get("verdict") == "broken":
        raise FidelityBroken(
            "the links did not do what was requested: " + "; ".join(_broken(outcome)),
            found="fidelity: broken",
            hint=f"{outcome.results}/run.json has what was measured; fewer nodes or lower rates need less",
        )
    raise typer.Exit(code)


def scenarios(output: OutputOption = Output.table) -> None:
    """List the scenarios that come with the program, with their parameters."""
    from orchestrator.scenario import load, shipped

    found = [load(name) for name in shipped()]
    if output is Output.json:
        emit(
            [
                {
                    "name": each.name,
                    "summary": each.summary,
                    "folder": str(each.folder),
                    "roles": list(each.roles),
                    "needs": {"python": list(each.modules), "programs": list(each.programs)},
                    "params": {name: _param(p) for name, p in each.params.items()},
                }
                for each in found
            ]
        )
        return
    rows = []
    for each in found:
        rows.append((each.name, each.summary))
        if needs := [*(f"Python's {name}" for name in each.modules), *each.programs]:
            rows.append(("", f"  needs {', '.join(needs)}"))
        rows += [
            ("", f"  {name}={p.show(p.default) if p.default is not None else '…'}  {p.help}")
            for name, p in each.params.items()
        ]
    table(("scenario", "what it does, and its parameters"), rows)


def new_scenario(
    name: Annotated[str, typer.Argument(help="The name of the folder and of the scenario.")],
    directory: Annotated[Path, typer.Option("-d", "--directory", help="Where the folder is made.")] = Path(),
) -> None:
    """Write a commented scenario to begin from."""
    from orchestrator.lab.skeleton import write_scenario

    folder = write_scenario(name, directory)
    notify(f"wrote {folder}; run it with `nm run scenario {folder}`")
    print(folder)


def _show_with_report(outcome: RunOutcome, output: Output, *, report: bool) -> RunOutcome:
    """Print a run's outcome and write its page; return the outcome with the page."""
    if output is Output.json:  # which tells where the report is
        outcome = write_report(outcome) if report else outcome
        show(outcome, output)
        return outcome
    show(outcome, output)
    return write_report(outcome) if report else outcome


def _exit_code(outcome: RunOutcome) -> int:
    """Return the exit code of a run.

    Raises:
        HostNotFit: It passed, but its results could not be written.
    """
    from orchestrator.errors import HostNotFit

    if outcome.ok and outcome.unwritten:
        raise HostNotFit(
            outcome.unwritten, id="results.unwritable", hint="`--results DIR` names another folder"
        )
    return 0 if outcome.ok else 1


def show(outcome: RunOutcome, output: Output) -> None:
    """Print a run's outcome: JSON, or its tables, checks and verdict."""
    if output is Output.json:
        emit(outcome.as_json())
        return
    from orchestrator.results import tables
    from orchestrator.results.tables import traffic_table

    shown = tables(outcome.scenario, outcome.rows)
    for each in [*shown, traffic_table(outcome.traffic)] if outcome.traffic else shown:
        table(each.columns, each.rows, each.title, each.note)
    if outcome.verdict != "error":
        for check in outcome.checks:
            print(f"{'✓' if check.ok else '✗'} {check.name}: {check.detail}")
    if outcome.fidelity.get("verdict") == "broken":
        notify("fidelity: broken: " + "; ".join(_broken(outcome)))
    if outcome.unwritten:
        notify(outcome.unwritten)
    if outcome.reason:
        notify(f"the run did not come to its end: {outcome.reason}")
    # Roles that raised come before roles that were stopped because of it.
    for failure in sorted(outcome.failures, key=lambda each: not each.traceback)[:3]:
        notify(f"  node {failure.node} ({failure.role}): {failure.error}")
        for line in failure.traceback.splitlines():
            notify(f"    | {line}")
    print(f"{outcome.verdict}  {outcome.run}  {outcome.seconds:.1f} s  results in {outcome.results}")


def _broken(outcome: RunOutcome) -> list[str]:
    """What links did not do, as sentences, of the first few."""
    broken = [each for each in outcome.fidelity["links"] if each["ok"] is False]
    said = []
    for each in broken[:3]:
        a, b = (each["a"], each["b"]) if each["direction"] == "forward" else (each["b"], each["a"])
        said.append(f"{', '.join(each['broken'])} of the link {a} → {b}")
    if len(broken) > 3:
        said.append(f"and {len(broken) - 3} more")
    if drops := outcome.fidelity["host"]["overload_drops"]:
        said.append(f"{drops} packets were dropped because this machine was overloaded")
    return said


def _lab_for(
    scenario: str, lab: str | None, topology: Path | None, backend: BackendName | None
) -> tuple[Lab, bool]:
    """The lab to run in, and whether it was brought up for this run."""
    from orchestrator.errors import LabNotFound
    from orchestrator.lab import Lab
    from orchestrator.lab.run_options import topology_of
    from orchestrator.scenario import load

    wanted = load(scenario)  # a scenario that is wrong is said before anything is brought up
    try:
        running = Lab.attach(lab)
    except LabNotFound as error:
        if error.id == "lab.ambiguous" or (lab is not None and topology is None):
            raise
    else:
        _require_same_lab(running, topology, backend)
        return running, False
    file = topology_of(wanted, topology)
    with progress() as say:
        carrier: Backend | None = backend.value if backend else None
        return Lab.up(file, name=lab, backend=carrier, progress=say, home=home()), True


@contextmanager
def _taken_down(lab: Lab | None) -> Iterator[None]:
    """Take a lab down at the end, whatever the end; do nothing for none."""
    try:
        yield
    finally:
        if lab is not None:
            with progress() as say:
                lab.down(progress=say)


def _without_tests(meant: Topology) -> str:
    """Return a topology as text without its tests, which are no part of the lab."""
    from dataclasses import replace

    from orchestrator import topology

    return topology.dump(replace(meant, tests=()))


def _require_same_lab(running: Lab, file: Path | None, backend: BackendName | None) -> None:
    """Refuse a `--backend` or `--topology` other than that of the lab that is up: it would have no effect.

    Raises:
        UsageError: One of them asks for another lab.
        TopologyInvalid: The file is wrong.
    """
    from orchestrator import topology
    from orchestrator.errors import UsageError

    option = ""
    if backend is not None and backend.value != running.backend:
        option, there = f"--backend {backend.value}", f"on the {running.backend} backend"
    elif file is not None and _without_tests(topology.load(file)) != _without_tests(running.topology):
        option, there = f"--topology {file}", "with another topology"
    if option:
        raise UsageError(
            f"`{option}` is for a lab brought up for the run, but lab {running.name} is up, {there}",
            id="run.lab-differs",
            found=option,
            expected=f"a run in lab {running.name}, or another lab's name",
            hint=f"leave `{option.split()[0]}` out to run in lab {running.name}; or take it down first with "
            f"`nm down -n {running.name}`; or bring another one up for it with `-n NAME --topology FILE`",
        )


def _report_kept_lab(lab: str, outcome: RunOutcome, *, kept: bool) -> None:
    """Report whether a lab brought up for a run is still up, for inspection."""
    if kept:
        notify(f"lab {lab} stays up; `nm down -n {lab}` takes it down")
    elif outcome.verdict == "error":
        notify(f"lab {lab}, brought up for the run, was taken down; with `--keep` it stays, to look at")


def _progress_reporter(say: Callable[[str], None]) -> Callable[[RunEvent], None]:
    """Return a function that turns a run's events into one line of progress."""
    ended: set[tuple[int, str]] = set()
    started: set[tuple[int, str]] = set()

    def tell(event: RunEvent) -> None:
        who = (event.node, event.role)
        data: Any = event.data
        if event.kind == "role_started":
            started.add(who)
        elif event.kind in ("role_finished", "role_lost"):
            ended.add(who)
        if event.kind == "interrupted":
            notify(data["reason"])
        elif event.kind == "timeline_nodes_restored":
            for error in data["errors"]:
                notify(f"a node that the timeline stopped or paused is not back: {error}")
        elif event.kind == "timeline":
            # A change that a role makes has no time at which it is due.
            say(f"{data.get('at_s', data['sent_s']):g} s: {data['do']} {data['where']}")
        elif event.kind == "progress":
            say(f"node {event.node}: {data['done']:g} of {data['total']:g}")
        elif event.kind in ("role_started", "role_finished", "role_lost"):
            say(f"{len(started)} roles started, {len(ended)} ended")

    return tell


def _param(param: Any) -> dict[str, Any]:
    return {"type": param.type, "default": param.default, "help": param.help}
