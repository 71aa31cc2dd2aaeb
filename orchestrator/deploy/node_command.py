"""Build the argument list that runs a program inside a node, for each backend.

`nm exec` imports this module and little else, because every import delays the command.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrator.deploy import processes, program, termination
from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.namespaces import require_table
from orchestrator.deploy.state import LabState
from orchestrator.errors import HostNotFit, UsageError
from orchestrator.services import Instance

__all__ = [
    "become",
    "command",
    "container_name",
    "docker_command",
    "host_part",
    "native_command",
    "service_command",
    "service_container",
]


def command(
    directory: LabDirectory,
    state: LabState,
    node: int,
    argv: Sequence[str],
    *,
    terminal: bool = False,
    user: str | None = None,
) -> list[str]:
    """The argument list that becomes `argv` in a node, with our own terminal or pipes."""
    if state.backend == "docker":
        return docker_command(state, node, argv, terminal=terminal, stdin=True, user=user)
    return native_command(directory, state, node, argv, user=user)


def native_command(
    directory: LabDirectory,
    state: LabState,
    node: int,
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    user: str | None = None,
    tag: str = "",
    part: str = "exec",
    variables: Mapping[str, str] | None = None,
) -> list[str]:
    """Enter the node's namespaces with `nsenter`; a terminal and standard input are simply inherited.

    `part` is what the labels of the process say it belongs to, and `variables` are added to its environment.
    """
    marks = {**(variables or {}), **processes.labels(state.lab, state.run, directory.home, part)}
    if tag:
        marks[termination.TAG] = tag
    environment = [*(program.DEFAULT_SIGNALS if program.nondefault_signals() else ["env"])]
    environment += [f"{key}={value}" for key, value in marks.items()]
    started = program.starting(argv, node, cwd=cwd or _here(), advice="nodes share the machine's programs")
    words = [*become(user), *started]
    return [*environment, *require_table(directory, host_part(state, node)).command(node, words)]


def docker_command(
    state: LabState,
    node: int,
    argv: Sequence[str],
    *,
    terminal: bool = False,
    stdin: bool = False,
    cwd: Path | None = None,
    user: str | None = None,
    tag: str = "",
) -> list[str]:
    """Run in the node's container with `docker exec`, as root without the entrypoint's capabilities."""
    options = [*(["--interactive"] if stdin or terminal else []), *(["--tty"] if terminal else [])]
    if user is not None:
        options.append(f"--user={user}")
    words = ["nm-exec", *program.DEFAULT_SIGNALS, *program.starting(argv, node, cwd=cwd)]
    if tag:
        # Orphans are adopted by this process, for as long as the command itself runs.
        words = ["tini", "-s", "--", *words]
        options.append(f"--env={termination.TAG}={tag}")
    return ["docker", "exec", *options, container_name(state, node), *words]


def service_command(
    directory: LabDirectory,
    state: LabState,
    instance: Instance,
    argv: Sequence[str],
    *,
    terminal: bool = False,
    user: str | None = None,
    tag: str = "",
) -> list[str]:
    """The argument list that becomes `argv` beside a service: in its container, or with its variables,
    rights and folder in its node."""
    if state.backend == "docker":
        options = ["--interactive", *(["--tty"] if terminal else [])]
        if user is not None:
            options.append(f"--user={user}")
        return ["docker", "exec", *options, service_container(state, instance), *argv]
    return native_command(
        directory,
        state,
        instance.node,
        argv,
        cwd=Path(instance.working_dir or "/"),
        user=user or instance.user or None,
        tag=tag,
        variables=instance.environment,
    )


def service_container(state: LabState, instance: Instance) -> str:
    """What the container of a service is called; no node's name has a dot in it."""
    return f"nm-{state.lab}-{instance.node_name}.{instance.service}"


def container_name(state: LabState, node: int) -> str:
    """What the node's container is called."""
    return f"nm-{state.lab}-{state.node(node).name}"


def become(user: str | None) -> list[str]:
    """The words before a command that give it another user's rights; nodes share the machine's users.

    Raises:
        UsageError: There is no such user.
        HostNotFit: The lab is an ordinary user's, whose nodes know no other.
    """
    if user is None:
        return []
    if os.geteuid() != 0:
        raise HostNotFit(
            f"a command as {user} needs a lab that root started",
            id="exec.user",
            found=user,
            hint="leave `--user` out, or start the lab as root or with `--backend docker`",
        )
    name, _, group = user.partition(":")
    try:
        entry = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
        gid = _group(group) if group else entry.pw_gid
    except KeyError as error:
        raise UsageError(
            f"there is no user {user} on this machine",
            id="exec.no-user",
            found=user,
            expected="a name or number",
        ) from error
    return ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={gid}", "--init-groups", "--"]


def _group(name: str) -> int:
    import grp

    return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid


def _here() -> Path:
    """The caller's folder; the root where it was deleted meanwhile."""
    try:
        return Path.cwd()
    except OSError:
        return Path("/")


def host_part(state: LabState, node: int) -> str:
    """The host process that carries a node."""
    return next((role for role, nodes in state.hosts.items() if node in nodes), "host")
