"""Run all benchmarks: `python -m benchmarks [--quick] [--publish]`, which `make bench` calls.

Options that all of them understand are handed on. The exit code is the most serious one: an interruption ends
the run at once, a missed gate outranks a machine that is not fit, and that outranks a gap.
"""

from __future__ import annotations

import sys

from benchmarks import program
from benchmarks.daily.__main__ import main as daily
from benchmarks.dataplane.__main__ import main as dataplane
from benchmarks.scale.__main__ import main as scale

__all__ = ["main", "most_serious"]

_INTERRUPTED = 130
_SEVERITY = (_INTERRUPTED, 2, 1, 4, 3, 0)


def main(words: list[str] | None = None) -> int:
    """Run every benchmark with the same options and return the most serious exit code."""
    given = sys.argv[1:] if words is None else words
    codes = []
    for command in (dataplane, scale, daily):
        program.say(f"== {command.__module__.rpartition('.')[0]}")
        codes.append(command(list(given)))
        if codes[-1] in (_INTERRUPTED, 2):
            break
    return most_serious(codes)


def most_serious(codes: list[int]) -> int:
    """Return the exit code that outranks the others."""
    return min(codes, key=_SEVERITY.index)


if __name__ == "__main__":
    sys.exit(main())
