"""The command: `python -m benchmarks.dataplane [--quick] [--publish]`."""

from __future__ import annotations

import argparse
import sys
from functools import partial

from benchmarks import program
from benchmarks.dataplane import benchmark
from benchmarks.dataplane.benchmark import Settings
from benchmarks.dataplane.cases import PATHS
from benchmarks.iperf import Timing

__all__ = ["main", "parse"]


def parse(words: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.dataplane",
        description="Measure the packet path and the kernel's forwarding, in interleaved rounds.",
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds with fixed CPUs (default: 5)")
    parser.add_argument("--unpinned-rounds", type=int, default=1, help="rounds without (default: 1)")
    parser.add_argument("--seconds", type=int, default=3, help="length of a sample (default: 3)")
    parser.add_argument("--warm-up", type=int, default=1, help="seconds left out at its start (default: 1)")
    parser.add_argument(
        "--transfer", type=int, default=1000, metavar="MB", help="size to hash (default: 1000)"
    )
    parser.add_argument("--only", default="", metavar="PATHS", help="comma-separated: " + ", ".join(_names()))
    parser.add_argument(
        "--no-checks",
        action="store_true",
        help="leave the path checks out: figures are unverified and the exit code is 1",
    )
    program.add_common_options(
        parser, quick="2 rounds of 1 s, 100 MB: for a first impression, not for publishing"
    )
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Run the benchmark and return the exit code."""
    options = parse(sys.argv[1:] if words is None else words)
    only = program.chosen(options.only, _names(), "path")
    if only is None:
        return 2
    settings = Settings(
        rounds=options.rounds,
        unpinned_rounds=options.unpinned_rounds,
        timing=Timing(options.seconds, options.warm_up),
        transfer_bytes=options.transfer * 1_000_000,
        only=only,
        checks=not options.no_checks,
    )
    if options.quick:
        settings = Settings(
            rounds=2,
            unpinned_rounds=0,
            timing=Timing(seconds=1, warm_up=0, pings=50),
            transfer_bytes=100_000_000,
            only=only,
            checks=not options.no_checks,
        )
    return program.guarded(options, partial(benchmark.run, settings))


def _names() -> list[str]:
    return [plan.name for plan in PATHS]


if __name__ == "__main__":
    sys.exit(main())
