"""Parse the agent's command line.

By hand, because `argparse` takes a sixth of a node's start in a container.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import NoReturn

USAGE = """\
usage: python -m orchestrator.node [--ready-file FILE] [--log-level LEVEL]
                                   [--uplink ADDRESSES] FILE…
       python -m orchestrator.node [--ready-file FILE] [--log-level LEVEL] [--part NAME]
                                   --directory LAB --nodes NODES

  FILE          node TOML files, for nodes in our own network
  --directory   the lab's folder; every node gets a namespace
  --part        with --directory: what this process is called (default: host)
  --nodes       with --directory: which nodes, such as 1,2,4-1000
  --uplink      in a container: forward packets to the outside, except to these addresses of the machine
  --ready-file  made when the nodes are up
  --log-level   error, warning, info or debug (default: info)"""

_LEVELS = ("error", "warning", "info", "debug")


class Options:
    """What the agent was started with.

    Attributes:
        configs: The TOML files of the nodes to carry.
        numbers: With a directory: their numbers, in the same order.
        directory: The lab's folder when the process carries a native lab's nodes in namespaces; None in a
            container, whose network is the node's.
        part: What this process is called in the lab; its table and working folder are named after it.
        ready_file: A file to make once the nodes are open; a container's health check looks for it.
        log_level: See `orchestrator.log`.
        uplink: In the container of a node with an uplink: the machine's addresses; None in others.
    """

    __slots__ = ("configs", "directory", "log_level", "numbers", "part", "ready_file", "uplink")

    def __init__(
        self,
        configs: tuple[str, ...],
        numbers: tuple[int, ...],
        directory: Path | None,
        part: str,
        ready_file: str | None,
        log_level: str,
        uplink: tuple[str, ...] | None = None,
    ) -> None:
        self.configs = configs
        self.numbers = numbers
        self.directory = directory
        self.part = part
        self.ready_file = ready_file
        self.log_level = log_level
        self.uplink = uplink


def parse(argv: Sequence[str]) -> Options:
    """Read the command line; exits with 2 and a usage line if it makes no sense."""
    values = {
        "--directory": "",
        "--part": "host",
        "--nodes": "",
        "--ready-file": "",
        "--log-level": "info",
        "--uplink": "",
    }
    files: list[str] = []
    words = iter(argv)
    for word in words:
        if word in ("-h", "--help"):
            print(USAGE)
            sys.exit(0)
        if word == "--":
            files += words
            break
        if not word.startswith("-"):
            files.append(word)
            continue
        name, equals, value = word.partition("=")
        if name not in values:
            _refuse(f"unrecognized option: {name}")
        if not equals:
            value = next(words, "")
            if value.startswith("-"):  # an option; a value that begins so is given with `=`
                value = ""
        if not value:
            _refuse(f"{name} needs a value")
        values[name] = value
    if values["--log-level"] not in _LEVELS:
        _refuse(f"--log-level: {values['--log-level']} is none of {', '.join(_LEVELS)}")
    if bool(files) == bool(values["--directory"]):
        _refuse("give node files, or --directory with --nodes")
    directory: Path | None = None
    numbers: tuple[int, ...] = ()
    if values["--directory"]:
        directory, numbers = _nodes_of_lab(values["--directory"], values["--nodes"])
        files = [str(directory / "run" / f"node-{number}.toml") for number in numbers]
    ready, level = values["--ready-file"] or None, values["--log-level"]
    uplink = tuple(values["--uplink"].split(",")) if values["--uplink"] else None
    return Options(tuple(files), numbers, directory, values["--part"], ready, level, uplink)


def _nodes_of_lab(directory: str, nodes: str) -> tuple[Path, tuple[int, ...]]:
    from pathlib import Path

    try:
        numbers = expand(nodes)
    except ValueError as error:
        _refuse(f"--nodes: {error}")
    if not numbers:
        _refuse("--directory needs --nodes")
    return Path(directory), numbers


def _refuse(why: str) -> NoReturn:
    print(f"{USAGE}\norchestrator.node: error: {why}", file=sys.stderr)
    sys.exit(2)


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
