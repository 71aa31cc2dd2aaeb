"""Run all benchmarks: `python -m benchmarks [--quick] [--publish]`, which `make bench` calls.

The options are passed to each of them. The exit code is the most serious one: 130 (interrupted) and 2 (wrong
usage) end the run at once; 1 outranks 4 (cannot run here), and that outranks 3 (target not measured).
"""

from __future__ import annotations

import sys

from benchmarks import program
from benchmarks.daily.__main__ import main as daily
from benchmarks.dataplane.__main__ import main as dataplane
from benchmarks.fidelity.__main__ import main as fidelity
from benchmarks.scale.__main__ import main as scale

__all__ = ["main", "most_serious"]

_INTERRUPTED = 130
_SEVERITY = (_INTERRUPTED, 2, 1, 4, 3, 0)


def main(words: list[str] | None = None) -> int:
    """Run every benchmark with the same options and return the most serious exit code."""
    given = sys.argv[1:] if words is None else words
    codes = []
    for command in (dataplane, scale, daily, fidelity):
        program.print_progress(f"== {command.__module__.rpartition('.')[0]}")
        codes.append(command(list(given)))
        if codes[-1] in (_INTERRUPTED, 2):
            break
    return most_serious(codes)


def most_serious(codes: list[int]) -> int:
    """Return the exit code that outranks the others."""
    return min(codes, key=_SEVERITY.index)


if __name__ == "__main__":
    sys.exit(main())
