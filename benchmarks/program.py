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
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks import labs, namespaces, report
from benchmarks.commands import require
from benchmarks.errors import BenchmarkError, NotRunnable

__all__ = ["Result", "Talk", "add_common_options", "guarded", "publish", "read_published", "say"]

Talk = Callable[[str], None]

_HERE = Path(__file__).resolve().parent
_RUNS = _HERE / "results" / "runs"
_PUBLISHED = _HERE / "results"
_PAGE = _HERE.parent / "docs" / "reference" / "benchmarks.md"
_TOOLS = {"iperf3": "iperf3", "ip": "iproute2", "nsenter": "util-linux", "ping": "iputils-ping"}


@dataclass(frozen=True, slots=True)
class Result:
    """A record for the file, and what to exit with."""

    record: dict[str, Any]
    exit_code: int


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


def guarded(options: argparse.Namespace, body: Callable[[Talk], Result]) -> int:
    """Run a benchmark, store and print what it found, and return the exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _require_fit_host()
        _remove_leftovers()
        result = body(say)
    except NotRunnable as error:
        say(f"cannot run here: {error}")
        return 4
    except BenchmarkError as error:
        say(f"failed: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; everything that was started is gone")
        return 130
    path = _store(result.record, options.output)
    if options.publish:
        publish(result.record)
    print(json.dumps(result.record, indent=1) if options.format == "json" else report.text(result.record))
    say(f"written to {path}")
    return result.exit_code


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
