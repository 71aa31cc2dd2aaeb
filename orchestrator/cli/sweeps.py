"""Sweeps and repetitions: what `nm run scenario` does with `--sweep`, `--repeat` and `--resume`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.cli.common import Output, emit, home, notify, progress, table
from orchestrator.cli.reports import (
    suggest_report,
    write_page_of_run,
    write_partial_sweep_report,
    write_sweep_report,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator.lab import Lab
    from orchestrator.lab.sweep import OnRun
    from orchestrator.lab.sweep_folder import SweepFolder
    from orchestrator.lab.sweep_plan import SweepOptions
    from orchestrator.results import RunOutcome
    from orchestrator.scenario import SweepRun

__all__ = ["given", "new", "require_no_more", "resume", "run", "show_sweep"]


def given(scenario: str | None) -> str:
    """The scenario, which only `--resume` can do without.

    Raises:
        UsageError: There is none.
    """
    from orchestrator.errors import UsageError

    if scenario is None:
        raise UsageError("NAME|DIR is missing", hint="`nm scenarios` lists what is shipped")
    return scenario


def require_no_more(others: Mapping[str, bool]) -> None:
    """Refuse options that mean nothing for a sweep, by their names and whether they were given.

    Raises:
        UsageError: One was given.
    """
    from orchestrator.errors import UsageError

    for option, given in others.items():
        if given:
            raise UsageError(
                f"`{option}` is for a single run, not for a sweep", id="sweep.option", found=option
            )


def new(
    scenario: str, lab: str | None, options: SweepOptions, require_same: Callable[[Lab], None]
) -> SweepFolder:
    """Check a sweep and make its folder.

    It runs in the lab that is up, unless a key of the topology is swept or no lab is up.

    Args:
        scenario: Its name or folder.
        lab: The name of the lab, if one was given.
        options: What the user asked for.
        require_same: Refuses a lab that is not what other options ask for.
    """
    from orchestrator.lab.find import find_lab
    from orchestrator.lab.sweep_plan import make_sweep
    from orchestrator.scenario import load, read_axes

    axes = read_axes(options.axes, load(scenario), options.params)
    of_topology = any(axis.kind == "topology" for axis in axes)
    without = options.backend == "simulated" or (lab is None and of_topology)
    running = None if without else _attached(lab)
    if running is None:
        return make_sweep(scenario, options)
    require_same(running)
    return make_sweep(scenario, options, find_lab(home(), running.name))


def resume(path: Path, scenario: str | None, options: SweepOptions) -> SweepFolder:
    """Open a sweep to do what is missing; the words of the command that began it may be given again.

    Raises:
        UsageError: They are those of another sweep.
    """
    from orchestrator.errors import UsageError
    from orchestrator.lab.sweep_folder import SweepFolder

    folder = SweepFolder.open(path)
    differs = "; ".join(_differing(folder, scenario, options))
    if differs:
        raise UsageError(
            f"the sweep {path} is another: {differs}",
            id="sweep.differs",
            found=str(path),
            hint=f"`nm run scenario --resume {path}` needs nothing else; without it a new one begins",
        )
    return folder


def _differing(folder: SweepFolder, scenario: str | None, options: SweepOptions) -> Iterator[str]:
    """What options say otherwise than a sweep does, as it has it."""
    from orchestrator.scenario import load, read_axes

    document, own = folder.document, folder.scenario()
    if scenario is not None and load(scenario).name != document["scenario"]:
        yield f"scenario {document['scenario']}"
        return
    if options.axes and read_axes(options.axes, own) != folder.axes:
        yield " ".join(f"--sweep {axis.key}={','.join(axis.values)}" for axis in folder.axes)
    for name, given, kept in (
        ("repeat", options.repeat, document["repeat"]),
        ("seed", options.seed, document["seed"]),
        ("timeout", options.timeout_s, document["timeout"]),
        ("backend", options.backend, document["backend"]),
    ):
        if given not in (None, kept):
            yield f"--{name} {kept}" if kept is not None else f"no --{name}"
    for name, text in options.params.items():
        param, kept = own.params.get(name), document["params"].get(name)
        if param is None or name not in document["params"] or param.read(text) != kept:
            yield f"--param {name}={kept}" if kept is not None else f"no --param {name}"


def run(
    folder: SweepFolder, output: Output, plot: str | None, on_event: Callable[[Any], Any], *, report: bool
) -> int:
    """Make the runs that are missing, print the table, and return the exit code.

    Args:
        folder: The sweep.
        output: What is printed.
        plot: The column that is plotted.
        on_event: Told what happens in a run.
        report: Whether each run and the sweep get a page.
    """
    from orchestrator.lab import loop_thread
    from orchestrator.lab.sweep import Sweep

    missing = len(folder.missing())
    where = "in labs of its own" if folder.document["own_lab"] else f"in {folder.document['lab']}"
    if folder.document["backend"] == "simulated":
        where = "on the simulated network"
    notify(f"sweep {folder.document['sweep']}: {missing} of {len(folder.runs)} runs to make, {where}")
    try:
        with progress(every_s=2.0) as say:
            sweep = Sweep(
                folder, home(), progress=say, on_run=_reporter(folder.path, report=report), on_event=on_event
            )
            document = loop_thread.call(sweep.run())
    except BaseException as error:
        left = len(folder.missing())
        notify(f"{len(folder.runs) - left} of {len(folder.runs)} runs are complete in {folder.path}")
        if left:
            notify(f"`nm run scenario --resume {folder.path}` makes the others")
        if report and isinstance(error, KeyboardInterrupt):
            suggest_report(folder.path)
        elif report:
            write_partial_sweep_report(folder)
        raise
    document = _plotted(folder, document, plot or folder.document["plot"])
    if report:
        write_sweep_report(folder)
    show_sweep(document, folder.path, output)
    return 0 if document["verdict"] == "pass" else 1


def show_sweep(document: Mapping[str, Any], path: Path, output: Output) -> None:
    """Print a sweep: `sweep.json`, or its table, what failed and the verdict."""
    if output is Output.json:
        emit(document)
        return
    from orchestrator.results.sweep_table import shown_table

    shown = shown_table(document)
    table(shown.columns, shown.rows, None, shown.note)
    failed = [each for each in document.get("runs", []) if each["verdict"] != "pass"]
    for each in failed[:5]:
        broken = "; ".join(
            f"{check['name']}: {check['detail']}" for check in each["checks"] if not check["ok"]
        )
        notify(f"{each['verdict']}: {_named(each)}: {each['reason'] or broken}  ({each['results']})")
    for each in document.get("missing", [])[:5]:
        notify(f"missing: {_named(each)}{': ' + each['reason'] if each['reason'] else ''}")
    more = max(0, len(failed) - 5) + max(0, len(document.get("missing", [])) - 5)
    if more:
        notify(f"and {more} more in sweep.json")
    for file in document.get("plots", []):
        notify(f"plot: {path / file}")
    done, planned = len(document.get("runs", [])), len(document.get("order", []))
    print(f"{document['verdict']}  {document['sweep']}  {done} of {planned} runs  results in {path}")


def _plotted(folder: SweepFolder, document: dict[str, Any], wanted: str | None) -> dict[str, Any]:
    """Draw the plot; what cannot be plotted is said, and fails nothing."""
    from orchestrator.errors import NmError
    from orchestrator.results.folder import unwritable
    from orchestrator.results.sweep_plot import choose_metric, draw

    try:
        metric = choose_metric(document, wanted)
        if metric is None:
            return document
        files = draw(document, metric, folder.path / "plots")
        folder.document["plots"] = [str(file.relative_to(folder.path)) for file in files]
        folder.write()
    except NmError as error:
        notify(error.render())
    except OSError as error:
        raise unwritable(folder.path, error) from error
    return folder.document


def _reporter(path: Path, *, report: bool) -> OnRun:
    def tell(number: int, count: int, run: SweepRun, outcome: RunOutcome | None) -> None:
        words = _words(run.combination.values, run.repetition)
        if outcome is None:
            return
        tail = f": {outcome.reason}" if outcome.reason else ""
        notify(f"run {number} of {count}  {words}  {outcome.verdict}  {outcome.seconds:.1f} s{tail}")
        if report:
            write_page_of_run(path / run.name)

    return tell


def _attached(lab: str | None) -> Lab | None:
    """The lab of that name, or the only one that is up; None if no name is given and none is up."""
    from orchestrator.errors import LabNotFound
    from orchestrator.lab import Lab

    try:
        return Lab.attach(lab)
    except LabNotFound as error:
        if error.id == "lab.ambiguous" or lab is not None:
            raise
        return None


def _named(entry: Mapping[str, Any]) -> str:
    return _words(entry["params"], entry["repetition"])


def _words(values: Mapping[str, str], repetition: int) -> str:
    return " ".join([*(f"{key}={value}" for key, value in values.items()), f"repetition {repetition}"])
