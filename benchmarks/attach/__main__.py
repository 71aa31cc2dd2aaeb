"""The command: `python -m benchmarks.attach [--rounds 5] [--size 256] [--publish]`.

Exit code 0 when the ratio reaches the bar, 1 when it does not, or a transfer failed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine, program
from benchmarks.limits import Limit
from benchmarks.tables import number, table
from orchestrator.deploy.home import Home
from orchestrator.lab import Lab

__all__ = ["main", "parse", "summary"]

LIMIT = Limit(
    "attach", "lossless transfer of an attached program / of the node's process", "ratio", 0.7, True
)

TOPOLOGY = "name: nmbench-attach\nn_nodes: 2\nlinks:\n  - {endpoints: [1, 2]}\n"
SCENARIO = Path(__file__).parents[1] / "scenarios" / "attach"


def parse(words: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.attach",
        description="Compare lossless transfers of an attached program with those of its node's process.",
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds, after one that does not count")
    parser.add_argument("--size", type=int, default=256, metavar="MB", help="size of a transfer")
    parser.add_argument("-o", dest="format", choices=("table", "json"), default="table", help="what to print")
    program.add_record_options(parser)
    return parser.parse_args(words)


def summary(rows: Sequence[Mapping[str, Any]], size: int) -> dict[str, dict[str, float]]:
    """Return, by kind, the medians over rounds: MB/s, and the ratio to the same round's embedded transfer.

    `delivered` counts the time in which the receiver fetches the bytes, too.
    """
    times: dict[tuple[str, int], tuple[float, float]] = {}
    for row in rows:
        if row["number"] == 0:  # the first round makes memory and code warm
            continue
        key = (row["kind"], row["number"])
        sent, fetched = times.get(key, (0.0, 0.0))
        times[key] = (sent + row.get("seconds", 0.0), fetched + row.get("fetch_seconds", 0.0))
    found = {}
    for kind in dict.fromkeys(kind for kind, _ in times):
        numbers = [each for other, each in times if other == kind]
        own = [times[kind, each] for each in numbers]
        reference = [times["embedded", each] for each in numbers]
        found[kind] = {
            "mb_per_s": statistics.median(size / 1e6 / sent for sent, _ in own),
            "ratio": statistics.median(b[0] / a[0] for a, b in zip(own, reference, strict=True)),
            "delivered_ratio": statistics.median(
                sum(b) / sum(a) for a, b in zip(own, reference, strict=True)
            ),
        }
    return found


def main(words: list[str] | None = None) -> int:
    """Run the benchmark and return the exit code."""
    options = parse(sys.argv[1:] if words is None else words)
    size = options.size * 1_000_000
    host = machine.describe()
    with tempfile.TemporaryDirectory(prefix="nm-attach-") as folder:
        Path(folder).chmod(0o755)  # the database's user needs access
        topology = Path(folder) / "topology.yaml"
        topology.write_text(TOPOLOGY, encoding="utf-8")
        with Lab.up(topology, backend="native", home=Home(Path(folder) / "home")) as lab:
            outcome = lab.run_scenario(
                str(SCENARIO),
                params={"size": size, "rounds": options.rounds + 1},
                results=Path(folder) / "results",
            )
    found = summary(outcome.rows, size)
    attached = found["attached"]
    kept = LIMIT.result(
        attached["ratio"],
        f"{number(attached['mb_per_s'], 'MB/s')}, {options.size} MB, median of {options.rounds} rounds",
    )
    record = {
        "benchmark": "attach",
        "machine": host,
        "size": size,
        "kinds": found,
        "goals": [kept.as_json()],
        "rows": [],
    }
    if options.format == "json":
        print(json.dumps(record, indent=1))
    else:
        header = ("Transfer", "MB/s", "ratio", "with fetching")
        cells = [
            (kind, number(each["mb_per_s"]), number(each["ratio"]), number(each["delivered_ratio"]))
            for kind, each in found.items()
        ]
        print(table(header, cells))
    if outcome.verdict != "pass":
        print(f"the run ended with {outcome.verdict}: {outcome.checks}", file=sys.stderr)
        return 1
    program.keep(record, options)
    return 0 if kept.ok else 1


if __name__ == "__main__":
    sys.exit(main())
