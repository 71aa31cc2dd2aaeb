"""Options, result files and exit codes shared by all benchmarks.

0    every row that was measured reached its gate, every path check passed
1    a row missed its gate, or a check failed
2    wrong usage
3    with --strict: a row was not measured
4    the machine cannot run the benchmark at all
130  interrupted
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from benchmarks import labs, namespaces, report
from benchmarks.commands import require
from benchmarks.errors import BenchmarkError, NotRunnable
from benchmarks.targets import RowResult, worst_exit

__all__ = [
    "Measured",
    "Outcome",
    "Talk",
    "add_common_options",
    "add_series_options",
    "chosen",
    "guarded",
    "keep",
    "publish",
    "read_published",
    "say",
]

Talk = Callable[[str], None]

_HERE = Path(__file__).resolve().parent
_RUNS = _HERE / "results" / "runs"
_PUBLISHED = _HERE / "results"
_PAGE = _HERE.parent / "docs" / "reference" / "benchmarks.md"
_TOOLS = {"iperf3": "iperf3", "ip": "iproute2", "nsenter": "util-linux", "ping": "iputils-ping"}


class Measured(Protocol):
    """What a benchmark found."""

    @property
    def record(self) -> dict[str, Any]:
        """What goes into the file."""
        ...

    def exit_code(self, *, strict: bool) -> int:
        """Return 0, 1 or 3."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a benchmark with rows found; `record` is what goes into the file."""

    record: dict[str, Any]
    rows: list[RowResult]
    checks_ok: bool

    def exit_code(self, *, strict: bool) -> int:
        """Return 0, 1 or 3; see `worst_exit`."""
        return worst_exit(self.rows, checks_ok=self.checks_ok, strict=strict)


def chosen(option: str, known: Sequence[str], what: str) -> frozenset[str] | None:
    """Read `--only`: the names of one `what` each; None, with a message, where one of them is not known."""
    only = frozenset(filter(None, option.split(",")))
    unknown = sorted(only - set(known))
    if unknown:
        say(f"no such {what}: {', '.join(unknown)}; there are {', '.join(known)}")
        return None
    return only


def add_series_options(parser: argparse.ArgumentParser, lab: str, publish: str) -> None:
    """Add the options of a series of kills whose every draw comes from a seed."""
    parser.add_argument("--seed", type=int, default=7, help="every draw comes from it (default: 7)")
    parser.add_argument("--lab", default=lab, help=f"the lab's name (default: {lab})")
    parser.add_argument("--home", type=Path, help="the lab's home (default: a temporary folder)")
    parser.add_argument(
        "--only", default="", metavar="N,…", help="carry out only these numbers of the series"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="keep every outcome as JSON")
    parser.add_argument("--publish", action="store_true", help=publish)


def keep(record: dict[str, Any], options: argparse.Namespace) -> None:
    """Write the record of a series where the command line says."""
    if options.output:
        options.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if options.publish:
        publish(record)


def add_common_options(parser: argparse.ArgumentParser, *, quick: str) -> None:
    """Add the options that every benchmark has."""
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--strict", action="store_true", help="exit 3 when a row was not measured")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="where the JSON goes (default: results/runs/)"
    )
    parser.add_argument("-o", dest="format", choices=("table", "json"), default="table", help="what to print")
    parser.add_argument(
        "--publish", action="store_true", help="make this the run that docs/reference/benchmarks.md shows"
    )


def guarded(options: argparse.Namespace, run: Callable[[Talk], Measured]) -> int:
    """Run a benchmark, store and print what it found, and return the exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _require_fit_host()
        _remove_leftovers()
        found = run(say)
    except NotRunnable as error:
        say(f"cannot run here: {error}")
        return 4
    except BenchmarkError as error:
        say(f"failed: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; everything that was started is gone")
        return 130
    path = _store(found.record, options.output)
    if options.publish:
        publish(found.record)
    print(json.dumps(found.record, indent=1) if options.format == "json" else report.text(found.record))
    say(f"written to {path}")
    return found.exit_code(strict=options.strict)


def say(line: str) -> None:
    """Talk to whoever waits; data goes to standard output, this does not."""
    print(line, file=sys.stderr, flush=True)


def read_published() -> dict[str, dict[str, Any]]:
    """Return the published records by benchmark."""
    found = {}
    for name in ("dataplane", "scale", "daily", "healing-native", "healing-docker", "chaos", "transfers"):
        path = _PUBLISHED / f"{name}.json"
        if path.exists():
            found[name] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _require_fit_host() -> None:
    if os.geteuid() != 0:
        raise NotRunnable("the references live in network namespaces, which need root")
    for tool, package in _TOOLS.items():
        require(tool, package=package)


def _remove_leftovers() -> None:
    removed = namespaces.remove_leftovers()
    with contextlib.suppress(NotRunnable):  # without the product there are no labs either
        removed += labs.remove_leftovers()
    for name in removed:
        say(f"removed {name}, left behind by a run that was killed")


def _store(record: dict[str, Any], output: Path | None) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    path = output or _RUNS / f"{record['benchmark']}-{stamp}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return path


def publish(record: dict[str, Any]) -> None:
    """Make a record the one that the documentation shows."""
    _store(record, _PUBLISHED / f"{record['benchmark']}.json")
    _PAGE.parent.mkdir(parents=True, exist_ok=True)
    _PAGE.write_text(report.page(read_published()), encoding="utf-8")
    say(f"published in {_PAGE}")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
