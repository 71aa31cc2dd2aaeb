"""The command: `python -m benchmarks.chaos --kills 200 --seed 7`, and the same with `--heal`.

Exit code 0 when no kill had a fault, 1 when one had, 130 when interrupted.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from benchmarks import machine, program
from benchmarks.chaos import recovery, recovery_report, report
from benchmarks.chaos.draw import PHASES, draw
from benchmarks.chaos.labs import Chaos, Outcome
from benchmarks.chaos.victims import DOCKER, NATIVE
from orchestrator import resources

__all__ = ["main", "parse"]


def parse(words: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.chaos",
        description="Kill parts of a lab at random moments. Without --heal, a native lab that restarts "
        "nothing: every command ends with a result or an error id. With --heal, the lab restarts its parts.",
        epilog="The published tables: `--heal --kills 200 --publish`, `--heal --backend docker --kills 60 "
        "--publish`, and `--kills 200 --publish`.",
    )
    parser.add_argument("--heal", action="store_true", help="check that the lab recovers by itself")
    parser.add_argument(
        "--backend", choices=("native", "docker"), default="native", help="with --heal (default: native)"
    )
    parser.add_argument("--kills", type=int, default=200, help="number of kills (default: 200)")
    parser.add_argument("--topology", type=Path, help="topology file of the lab (default: the supplied ring)")
    parser.add_argument("--phase", choices=PHASES, help="carry out only the kills of this phase")
    publish = "make this the series that docs/reference/benchmarks.md shows"
    program.add_series_options(parser, "chaos", publish)
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Run a series; return the exit code."""
    given = parse(sys.argv[1:] if words is None else words)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    if given.heal:
        return _recovery(given)
    only = {int(word) for word in given.only.split(",") if word}
    host = machine.describe()
    topology = given.topology or resources.path("topologies") / "ring.yaml"
    with tempfile.TemporaryDirectory(prefix="nm-chaos-") as folder:
        Path(folder).chmod(0o755)  # the database's user needs access
        chaos = Chaos(given.home or Path(folder) / "home", Path(topology).absolute(), given.lab)
        outcomes: list[Outcome] = []
        code = 0
        try:
            # Some come too late, because a command was faster than usual; more are drawn to replace them.
            for kill in draw((8 if given.phase else 2) * given.kills, given.seed):
                if sum(each.hit for each in outcomes) >= given.kills:
                    break
                if (not only or kill.number in only) and given.phase in (None, kill.phase):
                    outcomes.append(chaos.run(kill))
                    _print_outcome(outcomes[-1])
        except KeyboardInterrupt:
            code = 130
        left = chaos.end()
    for fault in left:
        print(f"at the end: {fault}", file=sys.stderr)
    record = {
        "benchmark": "chaos",
        "machine": host,
        "rows": [],
        "seed": given.seed,
        "kills": [each.as_json() for each in outcomes],
    }
    print(report.text(record))
    program.keep(record, given)
    return code or int(bool(left) or any(each.faults for each in outcomes))


def _recovery(given: argparse.Namespace) -> int:
    host = machine.describe()
    topology = given.topology or resources.path("topologies") / "ring.yaml"
    only = {int(word) for word in given.only.split(",") if word}
    victims = DOCKER if given.backend == "docker" else NATIVE
    outcomes: list[recovery.Outcome] = []
    code = 0
    with tempfile.TemporaryDirectory(prefix="nm-heal-") as folder:
        Path(folder).chmod(0o755)  # the database's user needs access
        home = given.home or Path(folder) / "home"
        series = recovery.Recovery(home, Path(topology).absolute(), given.lab, given.backend)
        try:
            for kill in recovery.draw(given.kills, given.seed, victims):
                if (not only or kill.number in only) and given.phase in (None, kill.phase):
                    outcomes.append(series.run(kill))
                    _print_recovery(outcomes[-1])
        except KeyboardInterrupt:
            code = 130
        finally:
            left = series.end()
    record = {
        "benchmark": f"healing-{given.backend}",
        "backend": given.backend,
        "machine": host,
        "rows": [],
        "seed": given.seed,
        "limit_s": recovery.LIMIT_S[given.backend],
        "kills": [each.as_json() for each in outcomes],
        "left": left,
    }
    print(recovery_report.text(record))
    program.keep(record, given)
    return code or int(bool(left) or any(each.faults for each in outcomes))


def _print_recovery(outcome: recovery.Outcome) -> None:
    seconds = "not recovered" if outcome.seconds is None else f"recovered after {outcome.seconds:.1f} s"
    tail = f", run {outcome.run}" if outcome.run else ""
    print(f"{outcome.kill}: {seconds}{tail}", file=sys.stderr, flush=True)
    for fault in outcome.faults:
        print(f"    FAULT {fault}", file=sys.stderr)
    if outcome.faults:
        for text in outcome.output[-6:]:
            print("\n".join(f"    | {line}" for line in text.splitlines()), file=sys.stderr, flush=True)


def _print_outcome(outcome: Outcome) -> None:
    missed = "" if outcome.hit else " (too late)"
    print(f"{outcome.kill}{missed}: {' → '.join(outcome.names)}", file=sys.stderr, flush=True)
    for fault in outcome.faults:
        print(f"    FAULT {fault}", file=sys.stderr)
    if outcome.faults:
        for text in outcome.output:
            print("\n".join(f"    | {line}" for line in text.splitlines()), file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
