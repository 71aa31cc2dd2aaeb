"""Reset signal dispositions and inherited descriptors of this process before the first thread starts.

Programs that roles start inherit from this process. They start as from a login shell: no signal ignored or
blocked, and no descriptors but the standard streams.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

__all__ = ["reset"]

_FAILED_WRITE = (signal.SIGPIPE, signal.SIGXFSZ)
"""Sent on writes to a closed pipe or beyond a file size limit; the write fails as well."""


def reset() -> None:
    """Give signals their defaults, block none, and keep descriptors from programs that are started."""
    for number in signal.valid_signals():
        if signal.getsignal(number) is signal.SIG_IGN and number not in _FAILED_WRITE:
            signal.signal(number, signal.SIG_DFL)
    for number in _FAILED_WRITE:
        # Caught instead of ignored, as Python has it: the write fails alike, and a program that is started
        # has the default again, because handlers end with the program that set them.
        signal.signal(number, _nothing)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  # only names are wanted
        if int(name) > 2:
            with suppress(OSError):  # the listing's own is closed by now
                os.set_inheritable(int(name), False)


def _nothing(_number: int, _frame: object) -> None:
    """Do nothing; the write that caused the signal fails."""
