"""Errors of a measurement.

BenchmarkError
├── CommandFailed     a program that we started ended badly or took too long
└── NotRunnable       this case cannot run on this machine; the report shows the reason, never a zero
"""

from __future__ import annotations

__all__ = ["BenchmarkError", "CommandFailed", "NotRunnable"]


class BenchmarkError(Exception):
    """The root of the tree; its text is one sentence for the report."""


class CommandFailed(BenchmarkError):
    """A program ended with an error or exceeded its time limit."""


class NotRunnable(BenchmarkError):
    """A case has no number here, for the stated reason."""
