"""The command: `python -m benchmarks.metrics [--rounds 20] [--publish]`.

Exit code 0 when the limits are kept, 1 when one is not or something failed, 4 when it cannot run here.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks import labs, machine, program
from benchmarks.errors import BenchmarkError, NotRunnable
from benchmarks.limits import Limit, LimitResult
from benchmarks.metrics import controller, throughput
from benchmarks.tables import number, table

__all__ = ["controller_results", "load_result", "main", "parse", "throughput_result"]

CPU = Limit("metrics-cpu", "1,000 nodes report each second: controller", "% of a core", 5)
ROWS = Limit("metrics-rows", "1,000 nodes report each second: rows in Postgres, with indexes", "MB/s", 1)
LOAD = Limit("metrics-load", "CPU time that metrics add in a lab of 3 nodes", "% of a core", 2)
THROUGHPUT = Limit("metrics-throughput", "TCP with metrics / without", "ratio", 0.98, True)

NODES = 1_000
CONTROLLER_ROUNDS, CONTROLLER_SECONDS = 5, 5
SAMPLE_SECONDS, LOAD_SECONDS = 2, 20


def parse(words: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.metrics",
        description="Measure what metrics cost the controller of 1,000 nodes, and a path's throughput.",
    )
    parser.add_argument("--rounds", type=int, default=20, help="rounds of the throughput")
    parser.add_argument("--only", choices=("controller", "throughput"), help="measure one part")
    parser.add_argument("-o", dest="format", choices=("table", "json"), default="table", help="what to print")
    program.add_record_options(parser)
    options = parser.parse_args(words)
    if options.publish and options.only:
        parser.error("a part alone cannot be published")
    return options


def controller_results(rounds: Sequence[controller.Round]) -> list[LimitResult]:
    """Return the results of the controller's part: the medians over rounds."""
    cores = [100 * each.cores for each in rounds]
    idle = statistics.median(100 * each.idle_cores for each in rounds)
    sizes = [each.row_bytes / 1e6 for each in rounds]
    reports = sum(each.reports for each in rounds)
    return [
        CPU.result(
            statistics.median(cores),
            f"two links and a flow of each; {number(min(cores))} to {number(max(cores))} in {len(rounds)}"
            f" rounds, beside {number(idle)} when idle",
        ),
        ROWS.result(statistics.median(sizes), f"all {reports:,} reports are there"),
    ]


def load_result(load: throughput.Load) -> LimitResult:
    """Return the result of the CPU time under small traffic."""
    return LOAD.result(
        100 * (load.on - load.off),
        f"hosts, controller and Postgres under a ping every {throughput.PING_S:g} s, {LOAD_SECONDS} s:"
        f" {100 * load.on:.2f} with metrics, {100 * load.off:.2f} without",
    )


def throughput_result(pairs: Sequence[throughput.Pair]) -> LimitResult:
    """Return the result of the throughput: the median of the ratios of all rounds."""
    ratios = sorted(pair.ratio for pair in pairs)
    quarter = len(ratios) // 4
    costs = [
        pair.on.cpu_seconds_per_gigabit / pair.off.cpu_seconds_per_gigabit
        for pair in pairs
        if pair.on.cpu_seconds_per_gigabit and pair.off.cpu_seconds_per_gigabit
    ]
    cpu = f"; CPU time per gigabit {statistics.median(costs):.3f} of that without" if costs else ""
    return THROUGHPUT.result(
        statistics.median(ratios),
        f"two links, {number(statistics.median(pair.off.value for pair in pairs), 'Gb/s')} without; median of"
        f" {len(ratios)} rounds in turn, the middle half {ratios[quarter]:.3f} to {ratios[-1 - quarter]:.3f}"
        f"{cpu}",
    )


def main(words: list[str] | None = None) -> int:
    """Run the benchmark and return the exit code."""
    options = parse(sys.argv[1:] if words is None else words)
    told = program.print_progress
    host = machine.describe()
    results: list[LimitResult] = []
    measured: dict[str, Any] = {}
    try:
        labs.remove_leftovers()
        if options.only != "throughput":
            rounds = controller.measure(NODES, CONTROLLER_ROUNDS, CONTROLLER_SECONDS, told)
            results += controller_results(rounds)
            measured["controller"] = [
                {"cores": each.cores, "idle_cores": each.idle_cores, "row_bytes": each.row_bytes}
                for each in rounds
            ]
        if options.only != "controller":
            pairs, load = throughput.measure(options.rounds, SAMPLE_SECONDS, LOAD_SECONDS, told)
            results += [load_result(load), throughput_result(pairs)]
            measured["load"] = {"off": load.off, "on": load.on}
            measured["throughput"] = [
                {
                    "off": pair.off.value,
                    "on": pair.on.value,
                    "off_cpu": pair.off.cpu_seconds_per_gigabit,
                    "on_cpu": pair.on.cpu_seconds_per_gigabit,
                }
                for pair in pairs
            ]
    except NotRunnable as error:
        told(f"cannot run here: {error}")
        return 4
    except BenchmarkError as error:
        told(f"failed: {error}")
        return 1
    record = {
        "benchmark": "metrics",
        "machine": host,
        "measured": measured,
        "goals": [each.as_json() for each in results],
        "rows": [],
    }
    if options.format == "json":
        print(json.dumps(record, indent=1))
    else:
        cells = [
            (
                each.limit.title,
                number(each.limit.bound, each.limit.unit),
                number(each.value, each.limit.unit),
                "kept" if each.ok else "MISSED",
                each.detail,
            )
            for each in results
        ]
        print(table(("What", "Limit", "Reached", "Result", "How"), cells))
    program.keep(record, options)
    return 0 if all(each.ok for each in results) else 1


if __name__ == "__main__":
    sys.exit(main())
