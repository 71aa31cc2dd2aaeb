"""Commands on the machine and the program: `doctor`, `version`, `completion`."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import BackendName, Output, OutputOption, emit, notify, table

if TYPE_CHECKING:
    from orchestrator.deploy.state import Backend


class Shell(StrEnum):
    """Shells that completion is written for."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(doctor)
    app.command()(version)
    app.command()(completion)


def doctor(
    backend: Annotated[BackendName | None, typer.Option(help="For which backend; both unless given.")] = None,
    nodes: Annotated[int, typer.Option(min=1, help="Whether so many nodes would fit.")] = 4,
    fix: Annotated[bool, typer.Option("--fix", help="Fix what can be fixed without harm.")] = False,
    output: OutputOption = Output.table,
) -> None:
    """Check whether this machine can run labs, and say how to fix what is missing; exit 4 if it cannot."""
    from orchestrator.lab.doctor import examine, repair

    checked: list[Backend] = [backend.value] if backend else ["native", "docker"]
    reports = {name: examine(name, nodes) for name in checked}
    if fix:
        for sentence in repair(reports):
            notify(sentence)
        reports = {name: examine(name, nodes) for name in checked}
    if output is Output.json:
        emit(
            {
                name: [
                    {"name": f.name, "level": f.level, "detail": f.detail, "hint": f.hint} for f in findings
                ]
                for name, findings in reports.items()
            }
        )
    else:
        for name, findings in reports.items():
            table(
                ("what", "level", "found", "how to fix it"),
                [(f.name, f.level, f.detail, f.hint) for f in findings],
                f"{name} backend",
            )
    fit = [name for name, findings in reports.items() if all(f.level != "problem" for f in findings)]
    notify(f"labs can run here: {', '.join(fit)}" if fit else "no lab can run here")
    raise typer.Exit(0 if fit else 4)


def version(output: OutputOption = Output.table) -> None:
    """Print the version."""
    import platform

    from orchestrator import __version__

    if output is Output.json:
        emit({"nm": __version__, "python": platform.python_version(), "kernel": platform.release()})
    else:
        print(f"nm {__version__}")


def completion(shell: Annotated[Shell, typer.Argument(help="Which shell.")] = Shell.bash) -> None:
    """Print the completion script for a shell: `source <(nm completion bash)`."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]  # not in its __all__

    print(get_completion_script(prog_name="nm", complete_var="_NM_COMPLETE", shell=shell.value))
