"""Write a commented scenario to start from."""

from __future__ import annotations

import re
from pathlib import Path

from orchestrator.errors import HostNotFit, UsageError

_NAME = re.compile(r"[a-z][a-z0-9-]{0,38}")

SCENARIO = """\
# What the experiment is called, needs and demands. `nm run scenario ./{name}` runs it.
name: {name}
summary: every worker gets a greeting over the emulated network and answers

# Brought up for the run when no lab is up; a shipped file, or one relative to this folder.
topology: ring.yaml

# What `--param key=value` may set. Types: int float str bool size duration rate file.
params:
  greeting: {{type: str, default: hello, help: what the trainer says}}
  port: {{type: int, default: 5000, min: 1024, max: 65535, help: where the workers listen}}

# One function per role in roles.py. Nodes: ids, ranges, names, globs, label=value, all, rest.
roles:
  trainer: {{nodes: 1}}
  worker: {{nodes: rest}}

# What has to hold for the rows that the roles report; any that does not makes `nm run` exit with 1.
checks:
  - {{name: every worker was greeted, rows: worker, where: "greeting == params.greeting", count: all}}

timeout: 30 s
"""

ROLES = '''\
"""The roles of {name}: plain Python, run inside the nodes.

A role's sockets and child processes are in its node's network. `ctx` has the node's dataplane
(`nextmini_py`), its parameters, and ways to meet the other roles.
"""

import socket


def trainer(ctx):
    """Greet every worker over TCP."""
    ctx.barrier("listening")
    for node in ctx.nodes("worker"):
        with socket.create_connection((ctx.address(node), ctx.params.port), timeout=10) as connection:
            connection.sendall(ctx.params.greeting.encode())
    ctx.log("greeted %d workers", len(ctx.nodes("worker")))


def worker(ctx):
    """Take one greeting and report it."""
    with socket.create_server(("", ctx.params.port)) as server:
        server.settimeout(20)
        ctx.barrier("listening")
        connection, peer = server.accept()
        with connection:
            greeting = connection.recv(4096).decode()
    ctx.report(greeting=greeting, peer=peer[0])
'''


def write_scenario(name: str, directory: Path) -> Path:
    """Write the starting point into a new folder and return it.

    Raises:
        UsageError: The name cannot be one, or the folder is there already.
        HostNotFit: The folder cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"`{name}` cannot be the name of a scenario",
            id="scenario.bad-name",
            found=name,
            expected="a small letter, then small letters, digits and -",
        )
    folder = directory / name
    try:
        folder.mkdir(parents=True)
        (folder / "scenario.yaml").write_text(SCENARIO.format(name=name))
        (folder / "roles.py").write_text(ROLES.format(name=name))
    except FileExistsError:
        raise UsageError(f"{folder} is there already", id="scenario.exists", found=str(folder)) from None
    except OSError as error:
        raise HostNotFit(f"cannot write {folder}: {error.strerror}", id="output.unwritable") from error
    return folder
