"""Inspect the environment in which a program of a node starts; for both backends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from orchestrator.deploy.home import Home
from tests.integration.conftest import ROOT

CLEAN = {"SigIgn": 0, "SigBlk": 0, "SigCgt": 0}

HOSTILE = """
import os, resource, signal, sys
import subprocess
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGUSR1, signal.SIGXFSZ, signal.SIGRTMIN):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2, signal.SIGTERM])
os.umask(0o027)
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
resource.setrlimit(resource.RLIMIT_CORE, (4096, 4096))
"""
"""Python that makes its process a starter from which nothing good is inherited."""

ROLES = '''
import os, signal, subprocess, tempfile

def look(ctx, start):
    """Start `cat` and `ls` in one way, and read what they saw."""
    with tempfile.TemporaryDirectory() as folder:
        start(f"exec cat /proc/self/status > {folder}/status")
        start(f"exec ls /proc/self/fd > {folder}/fds")
        return {"status": open(f"{folder}/status").read(), "fds": open(f"{folder}/fds").read()}

def fork_and_exec(script):
    child = os.fork()
    if child == 0:
        os.execv("/bin/sh", ["sh", "-c", script])
    os.waitpid(child, 0)

def posix_spawn(script):
    os.waitpid(os.posix_spawn("/bin/sh", ["sh", "-c", script], os.environ), 0)

def worker(ctx):
    ways = {
        "system": os.system,
        "run": lambda script: subprocess.run(["sh", "-c", script]),
        "as it is": lambda script: subprocess.run(["sh", "-c", script], restore_signals=False),
        "fork": fork_and_exec,
        "posix_spawn": posix_spawn,
    }
    for way, start in ways.items():
        ctx.report(way=way, **look(ctx, start))
'''
"""A role that starts programs in every way that Python has."""

SCENARIO = "name: starts\nsummary: a test\nroles:\n  worker: {nodes: 1}\nchecks: []\ntimeout: 30 s\n"


def hostile(
    home: Home,
    words: list[str],
    program: str = "orchestrator.cli",
    stdin: str = "",
    keep: tuple[int, ...] = (),
) -> subprocess.CompletedProcess[str]:
    """Run `nm` from a process that ignores and blocks signals and has limits of its own."""
    become = f"os.execv(sys.executable, [sys.executable, '-m', {program!r}, *sys.argv[1:]])"
    return subprocess.run(
        [sys.executable, "-c", HOSTILE + become, *words],
        input=stdin,
        capture_output=True,
        text=True,
        env={**os.environ, "NM_HOME": str(home.path), "PYTHONPATH": str(ROOT), "SHELL": "/bin/sh"},
        pass_fds=keep,
        timeout=60,
    )


def signals(status: str) -> dict[str, int]:
    """The signals that a program ignores, blocks and catches, from its `/proc/self/status`.

    32 and 33 are the C library's own; what its `posix_spawn` starts ignores them.
    """
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return {key: int(lines[key], 16) & ~(0b11 << 31) for key in CLEAN}


def descriptors(listing: str) -> list[int]:
    """The open files of an `ls /proc/self/fd` that was started with 0, 1 and 2 open.

    The folder itself is open meanwhile, under the first free number.
    """
    numbers = sorted(int(word) for word in listing.split())
    numbers.remove(next(number for number in range(3, 1000) if number + 1 not in numbers))
    return numbers


def write_scenario(folder: Path) -> Path:
    """Write the scenario of `ROLES`."""
    folder.mkdir()
    (folder / "scenario.yaml").write_text(SCENARIO)
    (folder / "roles.py").write_text(ROLES)
    return folder
