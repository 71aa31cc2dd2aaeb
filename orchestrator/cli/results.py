"""Commands on what was kept: `results list`, `show`, `report`, `compare`, `export` and `rm`; `replay`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.common import BackendName, Output, OutputOption, emit, home, notify, progress, table

if TYPE_CHECKING:
    from orchestrator.lab.replay import Replay
    from orchestrator.results import Bundle

__all__ = ["register"]

Folder = Annotated[
    Path, typer.Argument(metavar="DIR", help="The folder of a run or a sweep, or an archive of one.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    results = typer.Typer(
        help="Show, compare and export what runs have left.", no_args_is_help=True, rich_markup_mode=None
    )
    results.command("list")(list_results)
    results.command("show")(show)
    results.command("report")(report)
    results.command("compare")(compare)
    results.command("export")(export)
    results.command("rm")(remove)
    app.add_typer(results, name="results")
    app.command("replay")(replay)


def list_results(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to look.")] = Path("results"),
    output: OutputOption = Output.table,
) -> None:
    """List the runs and sweeps below a folder, oldest first."""
    from orchestrator.results import find_bundles

    found = find_bundles(folder)
    if output is Output.json:
        emit([_listed(each) for each in found])
        return
    rows = [
        (
            each.name,
            each.kind,
            str(each.document.get("scenario", "")),
            str(each.document.get("verdict", "")),
            str(each.document.get("started", ""))[:19].replace("T", " "),
            str(each.path),
        )
        for each in found
    ]
    if rows:
        table(("name", "kind", "scenario", "verdict", "started", "folder"), rows)
    else:
        notify(f"no results in {folder}")


def show(folder: Folder, output: OutputOption = Output.table) -> None:
    """Show a run as `nm run` does, or the table of a sweep."""
    from orchestrator.cli.sweeps import show_sweep
    from orchestrator.results import opened, read_rows, tables

    with opened(folder) as bundle:
        document = dict(bundle.document)
        if bundle.kind == "sweep":
            show_sweep(_with_runs(bundle), folder, output)
            return
        rows = read_rows(bundle)
        if output is Output.json:
            emit({**document, "rows": rows})
            return
        for each in tables(str(document.get("scenario", "")), rows):
            table(each.columns, each.rows, each.title, each.note)
        for check in document.get("checks", []):
            print(f"{'✓' if check['ok'] else '✗'} {check['name']}: {check['detail']}")
        if document.get("reason"):
            notify(f"the run did not come to its end: {document['reason']}")
        seconds = document.get("seconds", 0)
        print(f"{document.get('verdict')}  {bundle.name}  {seconds:.1f} s  results in {folder}")


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a run or a sweep.")],
) -> None:
    """Draw the plots of a run, or of a sweep and its runs, and write report.html; also after an interrupt."""
    from orchestrator.cli.reports import write_page_of_run, write_partial_sweep_report
    from orchestrator.lab.sweep_folder import SweepFolder
    from orchestrator.results import open_bundle

    if open_bundle(folder).kind == "sweep":
        written = write_partial_sweep_report(SweepFolder.open(folder))
    else:
        written = write_page_of_run(folder)
    if written is None:
        raise typer.Exit(1)
    print(written)


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="A run or a sweep: a folder or an archive.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="What it is compared with.")],
    output: OutputOption = Output.table,
) -> None:
    """Say which numbers of B differ from those of A by more than the noise, and what else is different."""
    from orchestrator.results import opened
    from orchestrator.results.compare import compare as compared
    from orchestrator.results.compare import comparison_tables

    with opened(a) as first, opened(b) as second:
        found = compared(first, second)
    if output is Output.json:
        emit(found)
        return
    for each in comparison_tables(found):
        table(each.columns, each.rows, each.title, each.note)
    if not found["differences"]:
        notify("no combination and numeric column is in both")
    for side, only in (("A", found["only_a"]), ("B", found["only_b"])):
        for values in only[:5]:
            words = " ".join(f"{key}={value}" for key, value in values.items()) or "without a combination"
            notify(f"only in {side}: {words}")
    if any(each["reason"] and not each["equal"] for each in found["differences"]):
        notify("whether a difference is larger than the noise takes four runs on each side, with `--repeat`")


def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a run or a sweep.")],
    target: Annotated[Path | None, typer.Argument(metavar="[FILE]")] = None,
) -> None:
    """Write a run or a sweep as one file: .tar.gz or .zip for the folder, .csv or .parquet for all rows.

    FILE is the folder's name with .tar.gz, here, unless given.
    """
    from orchestrator.results import opened
    from orchestrator.results.export import export as write

    with opened(folder) as bundle:
        file = target or Path(f"{bundle.path.resolve().name}.tar.gz")
        write(bundle, file)
    print(file)


def remove(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR…", help="Folders of runs or sweeps.")],
) -> None:
    """Remove runs or sweeps, without asking; a folder that is none is refused, and nothing is removed."""
    from orchestrator.results.export import remove as delete
    from orchestrator.results.export import require_removable

    for each in folders:
        require_removable(each)
    named = {each.resolve(): each for each in folders}
    for full, each in named.items():
        if not named.keys() & set(full.parents):  # else it goes with the folder that it is in
            notify(f"removed {delete(each)}")


def replay(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run, or an archive of it.")],
    backend: Annotated[
        BackendName | None, typer.Option(help="What carries the lab; what carried the first unless given.")
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where the replay gets a folder of its own; `results` unless given."
        ),
    ] = None,
    output: OutputOption = Output.table,
) -> None:
    """Repeat a run from its folder alone and say what differs; exit 1 when more than times does."""
    from orchestrator.lab import loop_thread
    from orchestrator.lab.replay import replay as repeat
    from orchestrator.results import opened

    with opened(run) as bundle, progress(every_s=2.0) as say:
        done = loop_thread.call(
            repeat(
                bundle,
                home(),
                backend=backend.value if backend else None,
                results=results,
                progress=say,
            )
        )
    if output is Output.json:
        emit(done.as_json())
    else:
        _show_replay(done)
    raise typer.Exit(0 if done.same else 1)


def _show_replay(done: Replay) -> None:
    times = [each for each in done.differences if each["time"] and not done.exact]
    others = [each for each in done.differences if done.exact or not each["time"]]
    if others:
        heads = ("role", "column", "rows", "node", "before", "after")
        table(heads, [tuple(_short(each[head]) for head in heads) for each in others], "rows differ")
    if times:
        names = sorted({f"{each['role']}.{each['column']}" for each in times})
        print(f"times and rates differ, as they do: {', '.join(names)}")
    for each in done.environment[:20]:
        print(f"{each['key']}: {_short(each['a'])} before, {_short(each['b'])} now")
    outcome = done.outcome
    if done.exact and not done.differences:
        print(f"all {len(outcome.rows)} rows are identical")
    if done.before != outcome.verdict:
        print(f"the verdict was {done.before}")
    word = "the same" if done.same else "different"
    print(f"{word}  {outcome.verdict}  {outcome.run} repeats {done.of}  results in {outcome.results}")


def _listed(bundle: Bundle) -> dict[str, Any]:
    document = bundle.document
    kept = ("scenario", "verdict", "started", "seed", "backend", "seconds", "reason")
    return {
        "name": bundle.name,
        "kind": bundle.kind,
        "results": str(bundle.path),
        **{key: document.get(key) for key in kept},
    }


def _with_runs(bundle: Bundle) -> dict[str, Any]:
    """A sweep with the runs that are complete by now, where it is still running or was killed."""
    from orchestrator.lab.sweep_folder import SweepFolder

    document = dict(bundle.document)
    if "runs" in document:
        return document
    return SweepFolder.open(bundle.path).summary()


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else text[:39] + "…"
