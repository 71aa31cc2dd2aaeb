"""Errors of a measurement.

BenchmarkError
├── CommandFailed     a child process failed or exceeded its time limit
└── NotRunnable       this case cannot run on this machine; the report shows the reason
"""

from __future__ import annotations

__all__ = ["BenchmarkError", "CommandFailed", "NotRunnable"]


class BenchmarkError(Exception):
    """Base class; its text is one sentence for the report."""


class CommandFailed(BenchmarkError):
    """A program ended with an error or exceeded its time limit."""


class NotRunnable(BenchmarkError):
    """A case cannot be measured on this machine, for the stated reason."""
