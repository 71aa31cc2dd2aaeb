"""Parse the agent's command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Options(NamedTuple):
    """What the agent was started with.

    Attributes:
        configs: The TOML files of the nodes to carry.
        numbers: With a directory: their numbers, in the same order.
        directory: The lab's folder when the process carries a native lab's nodes in namespaces; None in a
            container, whose network is the node's.
        part: What this process is called in the lab; its table and working folder are named after it.
        ready_file: A file to make once the nodes are open; a container's health check looks for it.
        log_level: See `orchestrator.log`.
    """

    configs: tuple[Path, ...]
    numbers: tuple[int, ...]
    directory: Path | None
    part: str
    ready_file: Path | None
    log_level: str


def parse(argv: Sequence[str]) -> Options:
    """Read the command line; exits with 2 and a usage line if it makes no sense."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.node", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="node TOML files, for nodes in our own network")
    parser.add_argument("--directory", type=Path, help="the lab's folder; every node gets a namespace")
    parser.add_argument("--part", default="host", help="with --directory: what this process is called")
    parser.add_argument("--nodes", default="", help="with --directory: which nodes, such as 1,2,4-1000")
    parser.add_argument("--ready-file", type=Path, help="made when the nodes are up")
    parser.add_argument("--log-level", default="info", choices=("error", "warning", "info", "debug"))
    given = parser.parse_args(argv)
    if bool(given.files) == bool(given.directory):
        parser.error("give node files, or --directory with --nodes")
    configs: tuple[Path, ...] = tuple(given.files)
    numbers: tuple[int, ...] = ()
    if given.directory:
        try:
            numbers = expand(given.nodes)
        except ValueError as error:
            parser.error(f"--nodes: {error}")
        if not numbers:
            parser.error("--directory needs --nodes")
        configs = tuple(given.directory / "run" / f"node-{n}.toml" for n in numbers)
    return Options(configs, numbers, given.directory, given.part, given.ready_file, given.log_level)


def expand(text: str) -> tuple[int, ...]:
    """The numbers in a list such as `1,2,4-6`, sorted, each once.

    Raises:
        ValueError: Something in it is no number or no range.
    """
    numbers: set[int] = set()
    for part in filter(None, text.split(",")):
        first, dash, last = part.partition("-")
        low, high = int(first), int(last if dash else first)
        if low < 1 or high < low:
            raise ValueError(f"`{part}` is no range of node numbers")
        numbers.update(range(low, high + 1))
    return tuple(sorted(numbers))
