"""The command `test`: run the tests of a lab."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import (
    BackendName,
    LabOption,
    Output,
    OutputOption,
    emit,
    home,
    notify,
    progress,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.deploy.state import Backend
    from orchestrator.lab import Lab
    from orchestrator.lab.lab_tests import LabTestResult


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(test)


def test(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]",
            help="A topology file or a scenario; the tests of the lab that is up without it.",
        ),
    ] = None,
    lab: LabOption = None,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Write the results as JUnit XML, too.")
    ] = None,
    backend: Annotated[
        BackendName | None, typer.Option(help="What carries a lab brought up for the tests.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="K=V", help="Override a value of FILE in a lab brought up for the tests."
        ),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave a lab up that was brought up for the tests.")
    ] = False,
    output: OutputOption = Output.table,
) -> None:
    """Run the tests that a topology or scenario file states; exit 1 when one fails.

    In the lab that is up; without one, that of FILE is brought up for the tests and taken down afterwards.
    """
    from orchestrator.clock import SystemClock, utc_text

    begun = utc_text(SystemClock().wall())
    running, ours = _lab_for(file, lab, backend, overrides or [])
    try:
        results = running.test(file, on_result=_print_result if output is Output.table else _ignore)
        if junit is not None:
            _write(junit, running.name, results, begun)
    finally:
        if ours and not keep:
            with progress() as say:
                running.down(progress=say)
    if output is Output.json:
        emit([each.as_json() for each in results])
    else:
        failed = sum(not each.ok for each in results)
        print(f"{len(results) - failed} of {len(results)} tests passed in lab {running.name}")
    if ours and keep:
        notify(f"lab {running.name} stays up; `nm down -n {running.name}` takes it down")
    raise typer.Exit(0 if all(each.ok for each in results) else 1)


def _ignore(_result: LabTestResult) -> None:
    """Print nothing before the end."""


def _print_result(result: LabTestResult) -> None:
    print(f"{'✓' if result.ok else '✗'} {result.name}: {result.detail} ({result.seconds:.1f} s)", flush=True)


def _write(file: Path, suite: str, results: Sequence[LabTestResult], begun: str) -> None:
    from orchestrator.errors import HostNotFit
    from orchestrator.lab.lab_tests import junit

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(junit(suite, results, begun), encoding="utf-8")
    except OSError as error:
        raise HostNotFit(f"cannot write {file}: {error.strerror}", id="output.unwritable") from error


def _lab_for(
    file: Path | None, name: str | None, backend: BackendName | None, overrides: list[str]
) -> tuple[Lab, bool]:
    """The lab to test, and whether it was brought up for that.

    Raises:
        UsageError: There is neither a lab nor a file, or the file has no tests.
    """
    from orchestrator import topology
    from orchestrator.errors import LabNotFound
    from orchestrator.lab import Lab
    from orchestrator.lab.lab_tests.files import find_tests, is_scenario
    from orchestrator.scenario import load

    wanted = load(file) if file is not None and is_scenario(file) else None
    declared = wanted.topology if wanted is not None else file
    if declared is None:
        return Lab.attach(name), False
    meant = topology.load(declared, overrides)
    find_tests(meant, file)  # a file that is wrong or has no tests is said before anything is brought up
    try:
        # A scenario is tested in whatever lab is up, as it would run there.
        running = Lab.attach(name or (None if wanted is not None else meant.name))
    except LabNotFound as error:
        if error.id == "lab.ambiguous":
            raise
        with progress() as say:
            carrier: Backend | None = backend.value if backend else None
            return Lab.up(meant, name=name, backend=carrier, progress=say, home=home()), True
    _require_no_start_options(running, backend, overrides)
    return running, False


def _require_no_start_options(running: Lab, backend: BackendName | None, overrides: list[str]) -> None:
    """Refuse options about how a lab is brought up where one is up already: they would have no effect."""
    from orchestrator.errors import UsageError

    option = f"--set {overrides[0]}" if overrides else ""
    if backend is not None and backend.value != running.backend:
        option = f"--backend {backend.value}"
    if option:
        raise UsageError(
            f"`{option}` is for a lab brought up for the tests, but lab {running.name} is up",
            id="test.lab-differs",
            found=option,
            hint=f"`nm down -n {running.name}` first, or another name with `-n`",
        )
