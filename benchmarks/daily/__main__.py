"""The command: `python -m benchmarks.daily [--only ring-native,tree-native]`."""

from __future__ import annotations

import argparse
import sys
from functools import partial

from benchmarks import program
from benchmarks.daily import benchmark
from benchmarks.daily.benchmark import PARTS, Settings

__all__ = ["main", "parse"]


def parse(words: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.daily",
        description="Measure everyday use (program start, small labs, transfers, links) against limits.",
    )
    parser.add_argument("--repeats", type=int, default=3, help="times a start is measured (default: 3)")
    parser.add_argument("--payload", type=int, default=90, metavar="MB", help="size to send (default: 90)")
    parser.add_argument("--only", default="", metavar="PARTS", help="comma-separated: " + ", ".join(PARTS))
    program.add_common_options(parser, quick="every start once")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Run the benchmark and return the exit code."""
    options = parse(sys.argv[1:] if words is None else words)
    only = program.chosen(options.only, PARTS, "part")
    if only is None:
        return 2
    repeats = 1 if options.quick else options.repeats
    settings = Settings(repeats, options.payload * 1_000_000, only)
    return program.guarded(options, partial(benchmark.run, settings))


if __name__ == "__main__":
    sys.exit(main())
