"""Handle SIGINT, SIGTERM and SIGHUP in a command."""

from __future__ import annotations

import signal
from types import FrameType
from typing import NoReturn

__all__ = ["SIGNALS", "handle_signals", "ignore_signals"]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that interrupt a command as Ctrl-C does."""


def handle_signals() -> None:
    """Let the first signal interrupt the command."""
    for number in SIGNALS:
        # A command that was started with SIGINT ignored, as in the background of a script, keeps ignoring it.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def ignore_signals() -> None:
    """Ignore signals from now on: the work is done, only its result is still to be printed.

    They are ignored rather than handled, because an interpreter that ends takes its handlers away first, and
    the exit code would be the signal's after all.
    """
    for number in SIGNALS:
        if signal.getsignal(number) is _interrupt:
            signal.signal(number, signal.SIG_IGN)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    """Interrupt the command and ignore further signals; its clean-up has time limits of its own."""
    for number in SIGNALS:
        signal.signal(number, _ignore)
    raise KeyboardInterrupt


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Ignore a further signal: an interrupted clean-up would leave leftovers."""
