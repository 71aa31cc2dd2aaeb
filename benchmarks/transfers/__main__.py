"""The command: `python -m benchmarks.transfers --transfers 500 --seed 7`.

Exit code 0 when there were no faults, 1 when there were, 130 when interrupted.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from benchmarks import machine, program
from benchmarks.transfers.draw import draw
from benchmarks.transfers.labs import Outcome, Transfers

__all__ = ["main", "parse"]


def parse(words: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.transfers",
        description="Kill senders, receivers and relays of transfers; check results and time limits.",
    )
    parser.add_argument("--transfers", type=int, default=500, help="least number of transfers (default: 500)")
    program.add_series_options(
        parser, "transfers", "make this the series that docs/reference/benchmarks.md shows"
    )
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Run a series; return the exit code."""
    given = parse(sys.argv[1:] if words is None else words)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    only = {int(word) for word in given.only.split(",") if word}
    host = machine.describe()
    outcomes: list[Outcome] = []
    code = 0
    with tempfile.TemporaryDirectory(prefix="nm-transfers-") as folder:
        Path(folder).chmod(0o755)  # the database's user needs access
        transfers = Transfers(given.home or Path(folder) / "home", Path(folder) / "files", given.lab)
        try:
            for case in draw(given.transfers, given.seed):
                if sum(each.transfers for each in outcomes) >= given.transfers:
                    break
                if not only or case.number in only:
                    outcomes.append(transfers.run(case))
                    _print_outcome(outcomes[-1])
        except KeyboardInterrupt:
            code = 130
        finally:
            transfers.end()
    total = {
        name: sum(getattr(each, name) for each in outcomes)
        for name in ("transfers", "verified", "named", "unproven")
    }
    faults = sum(len(each.faults) for each in outcomes)
    print(", ".join(f"{count} {name}" for name, count in total.items()) + f", {faults} faults")
    record = {
        "benchmark": "transfers",
        "machine": host,
        "seed": given.seed,
        "rows": [],
        "total": {**total, "faults": faults},
        "cases": [each.as_json() for each in outcomes],
    }
    program.keep(record, given)
    return code or int(faults > 0)


def _print_outcome(outcome: Outcome) -> None:
    counts = f"{outcome.verified} verified, {outcome.named} failed with a reason, {outcome.unproven} unproven"
    print(f"{outcome.case} → {counts}", file=sys.stderr, flush=True)
    for fault in outcome.faults:
        print(f"    FAULT {fault}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
