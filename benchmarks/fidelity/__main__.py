"""The command: `python -m benchmarks.fidelity [--quick] [--publish]`."""

from __future__ import annotations

import argparse
import sys
from functools import partial

from benchmarks import program
from benchmarks.fidelity import benchmark
from benchmarks.fidelity.benchmark import LINKS, Settings
from orchestrator.bench import ROWS

__all__ = ["main", "parse"]


def parse(words: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fidelity",
        description="Measure rate, delay, jitter, loss and scheduling of links with real traffic.",
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds; their median counts (default: 3)")
    parser.add_argument("--only", default="", metavar="ROWS", help="comma-separated: " + ", ".join(_rows()))
    parser.add_argument("--links", default="", metavar="LINKS", help="comma-separated: " + ", ".join(LINKS))
    program.add_common_options(parser, quick="one round with a tenth of the traffic: for a first impression")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Run the benchmark and return the exit code."""
    options = parse(sys.argv[1:] if words is None else words)
    only = program.chosen(options.only, _rows(), "row")
    links = program.chosen(options.links, list(LINKS), "link")
    if only is None or links is None:
        return 2
    settings = Settings(1 if options.quick else options.rounds, only, links, options.quick)
    return program.guarded(options, partial(benchmark.run, settings))


def _rows() -> list[str]:
    return [row.name for row in ROWS]


if __name__ == "__main__":
    sys.exit(main())
