"""Commands on nodes: `exec`, `shell`, `logs`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from orchestrator.cli.common import LabOption, Output, OutputOption, emit, home, notify

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.lab import AsyncLab, Completed


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("exec")(exec_)
    app.command()(shell)
    app.command()(logs)


NodeArgument = Annotated[
    str, typer.Argument(metavar="NODE", help="Number or name; NODE/SERVICE for a service.")
]


def exec_(
    nodes: Annotated[
        str,
        typer.Argument(
            metavar="NODE[,NODE…|all]",
            help="Numbers, ranges, names, globs, label=value or all; or NODE/SERVICE.",
        ),
    ],
    command: Annotated[list[str], typer.Argument(metavar="-- CMD…", help="The command and its arguments.")],
    lab: LabOption = None,
    timeout: Annotated[
        float | None, typer.Option(metavar="S", help="End it after so long, with exit code 124.")
    ] = None,
    user: Annotated[
        str | None,
        typer.Option("-u", "--user", metavar="USER", help="Whose rights it has; root's if not given."),
    ] = None,
    output: OutputOption = Output.table,
) -> None:
    """Run a command in one node or in several at once; its exit code is ours."""
    from orchestrator.deploy import node_states
    from orchestrator.lab import find

    directory, state = find.find_lab(home(), lab)
    if "/" in nodes:
        _exec_in_service(state.lab, nodes, command, timeout, user, output)
        return
    chosen = find.select_nodes(state, [nodes])
    if outside := find.left_out(state, [nodes]):
        numbers = ", ".join(str(node) for node in outside)
        notify(f"left out, because nm runs nothing in an external node: {numbers}")
    find.require_inside(state, chosen)
    away = find.not_running(directory, state, [nodes])
    if running := [node for node in chosen if node not in away]:
        chosen = running
        if away:
            notify(f"left out: {', '.join(f'node {node}, which is {kind}' for node, kind in away.items())}")
    node_states.require_running(directory, chosen)
    if len(chosen) == 1 and output is Output.table and timeout is None:
        from orchestrator.deploy import node_command

        become_program(node_command.command(directory, state, chosen[0], command, user=user))

    from orchestrator.lab import AsyncLab

    results = _run_in_all(AsyncLab.attach(state.lab), chosen, command, timeout, user, output)
    if output is Output.json:
        emit([result.as_json() for result in results])
    raise typer.Exit(next((result.exit_code for result in results if result.exit_code), 0))


def _exec_in_service(
    lab: str, word: str, command: list[str], timeout: float | None, user: str | None, output: Output
) -> None:
    """Run a command beside a service such as `3/redis`."""
    from orchestrator.deploy import node_command, node_states
    from orchestrator.lab import AsyncLab, loop_thread

    service = AsyncLab.attach(lab).service(word)
    node_states.require_running(service.directory, [service.node])
    if output is Output.table and timeout is None:
        become_program(
            node_command.service_command(
                service.directory, service.state, service.instance, command, user=user
            )
        )
    done = loop_thread.call(service.run(command, timeout=timeout, user=user))
    if output is Output.json:
        emit([{**done.as_json(), "service": service.name}])
    else:
        sys.stdout.write(done.stdout)
        sys.stderr.write(done.stderr)
    raise typer.Exit(done.exit_code)


def shell(node: NodeArgument, lab: LabOption = None) -> None:
    """Open a shell inside a node, or beside a service such as `3/redis`."""
    from orchestrator.deploy import node_command, node_states
    from orchestrator.lab import find

    directory, state = find.find_lab(home(), lab)
    word, _, service = node.partition("/")
    number = find.select_node(state, word)
    find.require_inside(state, [number])
    node_states.require_running(directory, [number])
    terminal = sys.stdin.isatty()
    wanted = os.environ.get("SHELL", "/bin/bash") if state.backend == "native" else "/bin/bash"
    # Not every image has bash; sh is always there.
    script = 'command -v "$0" >/dev/null 2>&1 && exec "$0"; exec /bin/sh'
    words = ["/bin/sh", "-c", script, wanted]
    if service:
        from orchestrator.lab.service import select_service

        instance = select_service(directory, state, node)
        argv = node_command.service_command(directory, state, instance, words, terminal=terminal)
    else:
        argv = node_command.command(directory, state, number, words, terminal=terminal)
    if terminal:
        what = f"service {service} in node {number}" if service else f"node {number}"
        notify(f"{what} of lab {state.lab}; leave with `exit`")
    become_program(argv)


def logs(
    part: Annotated[
        str | None,
        typer.Argument(
            metavar="[NODE|NODE/SERVICE|controller|postgres|host|services|supervisor]",
            help="Whose log; all unless given.",
        ),
    ] = None,
    lab: LabOption = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as it grows.")] = False,
    tail: Annotated[int | None, typer.Option(min=0, metavar="N", help="Only the last N lines.")] = None,
) -> None:
    """Print what a node, a service or the controller logged."""
    from orchestrator.lab import AsyncLab, loop_thread

    running = AsyncLab.attach(lab)
    loop_thread.call(_print_logs(running, part, follow, tail))


async def _print_logs(running: AsyncLab, part: str | None, follow: bool, tail: int | None) -> None:
    import asyncio

    parts = [_part(running, part)] if part else list(await running.parts())

    async def one(name: str) -> None:
        prefix = f"{name:<10} | " if len(parts) > 1 else ""
        async for line in running.logs(name, follow=follow, tail=tail):
            print(f"{prefix}{line}", flush=follow)

    if follow:
        await asyncio.gather(*(one(name) for name in parts))
        return
    for name in parts:
        await one(name)


def _part(running: AsyncLab, word: str) -> str:
    if "/" in word:
        return running.service(word).instance.key
    if word in ("controller", "postgres", "host", "services", "supervisor") or word in running.note.hosts:
        return word
    return f"node-{running.node(word).id}"


def _run_in_all(
    running: AsyncLab,
    chosen: Sequence[int],
    command: Sequence[str],
    timeout: float | None,
    user: str | None,
    output: Output,
) -> Sequence[Completed]:
    from orchestrator.lab import loop_thread

    names = {node.id: node.name for node in running.nodes}
    width = max((len(names[node]) for node in chosen), default=0)
    prefixed = len(chosen) > 1

    def show(node: int, stream: str, line: str) -> None:
        prefix = f"{names[node]:<{width}} | " if prefixed else ""
        print(f"{prefix}{line}", file=sys.stdout if stream == "stdout" else sys.stderr, flush=True)

    on_line = show if output is Output.table else None
    return loop_thread.call(
        running.run_in_all(chosen, command, timeout_s=timeout, on_line=on_line, user=user)
    )


def become_program(argv: Sequence[str]) -> NoReturn:
    """Replace this process by the command, so that terminal, signals and exit code are its own."""
    import signal

    sys.stdout.flush()
    sys.stderr.flush()
    # Signals that Python or our parent process ignores or blocks are reset for the command.
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.execvp(argv[0], list(argv))
