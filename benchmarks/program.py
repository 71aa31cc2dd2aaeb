"""Options, result files and exit codes shared by all benchmarks.

0    every target that was measured reached its gate, every path check passed
1    a target missed its gate, a path check failed, or the path checks were left out
2    wrong usage
3    with --strict: a target was not measured
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
from benchmarks.targets import TargetResult, exit_code

__all__ = [
    "Measured",
    "Notify",
    "Outcome",
    "add_common_options",
    "add_record_options",
    "add_series_options",
    "chosen",
    "guarded",
    "keep",
    "print_progress",
    "publish",
    "read_published",
]

Notify = Callable[[str], None]

_HERE = Path(__file__).resolve().parent
_RUNS = _HERE / "results" / "runs"
_PUBLISHED = _HERE / "results"
_PAGE = _HERE.parent / "docs" / "reference" / "benchmarks.md"
_PUBLISH_HELP = "make this the run that docs/reference/benchmarks.md shows"
_TOOLS = {"iperf3": "iperf3", "ip": "iproute2", "nsenter": "util-linux", "ping": "iputils-ping"}


class Measured(Protocol):
    """Result of a benchmark."""

    @property
    def record(self) -> dict[str, Any]:
        """What goes into the file."""
        ...

    def exit_code(self, *, strict: bool) -> int:
        """Return 0, 1 or 3."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a benchmark with targets; `record` is what goes into the file."""

    record: dict[str, Any]
    targets: list[TargetResult]
    checks_ok: bool

    def exit_code(self, *, strict: bool) -> int:
        """Return 0, 1 or 3; see `targets.exit_code`."""
        return exit_code(self.targets, checks_ok=self.checks_ok, strict=strict)


def chosen(option: str, known: Sequence[str], what: str) -> frozenset[str] | None:
    """Read `--only`: the names of one `what` each; None, with a message, where one of them is not known."""
    only = frozenset(filter(None, option.split(",")))
    unknown = sorted(only - set(known))
    if unknown:
        print_progress(f"no such {what}: {', '.join(unknown)}; there are {', '.join(known)}")
        return None
    return only


def add_series_options(parser: argparse.ArgumentParser, lab: str, publish: str) -> None:
    """Add the options of a series of kills with random draws."""
    parser.add_argument("--seed", type=int, default=7, help="seed of all random draws (default: 7)")
    parser.add_argument("--lab", default=lab, help=f"the lab's name (default: {lab})")
    parser.add_argument("--home", type=Path, help="NM_HOME of the lab (default: a temporary folder)")
    parser.add_argument(
        "--only", default="", metavar="N,…", help="carry out only these numbers of the series"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="keep every outcome as JSON")
    parser.add_argument("--publish", action="store_true", help=publish)


def add_record_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `keep` reads."""
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the record as JSON")
    parser.add_argument("--publish", action="store_true", help=_PUBLISH_HELP)


def keep(record: dict[str, Any], options: argparse.Namespace) -> None:
    """Write a record to the files given on the command line."""
    if options.output:
        options.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if options.publish:
        publish(record)


def add_common_options(parser: argparse.ArgumentParser, *, quick: str) -> None:
    """Add the options that every benchmark has."""
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--strict", action="store_true", help="exit 3 when a target was not measured")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="where the JSON goes (default: results/runs/)"
    )
    parser.add_argument("-o", dest="format", choices=("table", "json"), default="table", help="what to print")
    parser.add_argument("--publish", action="store_true", help=_PUBLISH_HELP)


def guarded(options: argparse.Namespace, run: Callable[[Notify], Measured]) -> int:
    """Run a benchmark, store and print what it found, and return the exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _require_fit_host()
        _remove_leftovers()
        found = run(print_progress)
    except NotRunnable as error:
        print_progress(f"cannot run here: {error}")
        return 4
    except BenchmarkError as error:
        print_progress(f"failed: {error}")
        return 1
    except KeyboardInterrupt:
        print_progress("interrupted; everything that was started was ended and removed")
        return 130
    path = _store(found.record, options.output)
    if options.publish:
        publish(found.record)
    print(json.dumps(found.record, indent=1) if options.format == "json" else report.text(found.record))
    print_progress(f"written to {path}")
    return found.exit_code(strict=options.strict)


def print_progress(line: str) -> None:
    """Print a progress message on standard error; only results go to standard output."""
    print(line, file=sys.stderr, flush=True)


def read_published() -> dict[str, dict[str, Any]]:
    """Return the published records by benchmark."""
    found = {}
    for name in (
        "dataplane",
        "scale",
        "daily",
        "fidelity",
        "healing-native",
        "healing-docker",
        "chaos",
        "transfers",
        "services",
        "attach",
        "metrics",
    ):
        path = _PUBLISHED / f"{name}.json"
        if path.exists():
            found[name] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _require_fit_host() -> None:
    if os.geteuid() != 0:
        raise NotRunnable("the reference paths need network namespaces, which need root")
    for tool, package in _TOOLS.items():
        require(tool, package=package)


def _remove_leftovers() -> None:
    removed = namespaces.remove_leftovers()
    with contextlib.suppress(NotRunnable):  # without the product there are no labs either
        removed += labs.remove_leftovers()
    for name in removed:
        print_progress(f"removed {name}, left behind by a run that was killed")


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
    print_progress(f"published in {_PAGE}")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
