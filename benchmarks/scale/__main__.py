"""The command: `python -m benchmarks.scale [--quick] [--publish]`."""

from __future__ import annotations

import argparse
import sys
from functools import partial

from benchmarks import program
from benchmarks.scale import benchmark
from benchmarks.scale.benchmark import PARTS, Settings

__all__ = ["main", "parse"]


_QUICK = (
    "small quick run: rings of 20 and 100, 4 containers, one repeat; only target 16 (receive cost) is graded"
)


def parse(words: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale",
        description="Measure labs of many nodes: start, stop, memory and idle cost.",
    )
    parser.add_argument("--nodes", type=int, default=100, help="ring whose start is repeated (default: 100)")
    parser.add_argument("--many", type=int, default=1000, help="the large ring (default: 1000)")
    parser.add_argument("--containers", type=int, default=20, help="nodes of the docker lab (default: 20)")
    parser.add_argument("--repeats", type=int, default=3, help="times a start is measured (default: 3)")
    parser.add_argument("--idle", type=float, default=20.0, metavar="S", help="watch idle CPU (default: 20)")
    parser.add_argument("--only", default="", metavar="PARTS", help="comma-separated: " + ", ".join(PARTS))
    program.add_common_options(parser, quick=_QUICK)
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Run the benchmark and return the exit code."""
    options = parse(sys.argv[1:] if words is None else words)
    only = program.chosen(options.only, PARTS, "part")
    if only is None:
        return 2
    settings = Settings(options.nodes, options.many, options.containers, options.repeats, options.idle, only)
    if options.quick:
        settings = Settings(20, 100, 4, 1, 5.0, only)
    return program.guarded(options, partial(benchmark.run, settings))


if __name__ == "__main__":
    sys.exit(main())
