"""Start idle containers in parallel: a lower bound for a node per container.

They run the image of nm nodes with `sleep` instead of the agent, on a separate network, so that the
difference to `nm up` is the testbed and nothing else.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.commands import require, run
from benchmarks.errors import NotRunnable

__all__ = ["node_image", "start_idle"]

_numbers = itertools.count(1)
_SECONDS = 120.0


def node_image() -> str:
    """Return the newest image of a node.

    Raises:
        NotRunnable: No engine answers, or there is no such image.
    """
    require("docker", package="docker.io")
    listed = run(
        ["docker", "image", "ls", "nm-node", "--format", "{{.Repository}}:{{.Tag}}"], timeout=30, check=False
    )
    if listed.exit_code != 0:
        raise NotRunnable("no Docker engine answers")
    images = listed.stdout.split()
    if not images:
        raise NotRunnable("there is no image nm-node; `nm up --backend docker` builds it")
    return images[0]


def start_idle(count: int, image: str) -> float:
    """Start `count` idle containers at once, remove them, and return the seconds until the last one ran."""
    prefix = f"nmbench-{os.getpid()}-{next(_numbers)}"
    names = [f"{prefix}-{index}" for index in range(count)]
    run(["docker", "network", "create", prefix], timeout=_SECONDS)
    try:
        begin = time.monotonic()
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(lambda name: _start(name, prefix, image), names))
        return time.monotonic() - begin
    finally:
        with contextlib.suppress(Exception):  # an error raised above is the one to report
            run(["docker", "rm", "--force", *names], timeout=_SECONDS, check=False)
        run(["docker", "network", "rm", prefix], timeout=_SECONDS, check=False)


def _start(name: str, network: str, image: str) -> None:
    words = ["docker", "run", "--detach", "--name", name, "--network", network, "--label", "nmbench=idle"]
    run([*words, "--entrypoint", "sleep", image, "infinity"], timeout=_SECONDS)
