"""Settings of this process that all roles share, put back after roles as they were before the first one.

A role may lower a limit on resources, or change how the interpreter works, for itself. Whoever comes next,
and the nodes in this process, would be left with it.
"""

from __future__ import annotations

import gc
import resource
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

__all__ = ["Settings"]

_LIMITS = sorted(getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_"))


class Settings:
    """What they are now, to be put back later."""

    def __init__(self) -> None:
        self._limits = {number: resource.getrlimit(number) for number in _LIMITS}
        self._collects = gc.isenabled()
        self._filters = list(warnings.filters)
        read_and_write: list[tuple[Callable[[], Any], Callable[[Any], Any]]] = [
            (sys.getrecursionlimit, sys.setrecursionlimit),
            (sys.getswitchinterval, sys.setswitchinterval),
            (threading.gettrace, threading.settrace),
            (threading.getprofile, threading.setprofile),
            (threading.stack_size, threading.stack_size),
        ]
        self._values = [(read, write, read()) for read, write in read_and_write]

    def put_back(self) -> None:
        """Make them what they were, as far as the kernel allows: a hard limit is raised by root alone."""
        for number, (soft, hard) in self._limits.items():
            now = resource.getrlimit(number)
            if now == (soft, hard):
                continue
            for wanted in ((soft, hard), (_lower(soft, now[1]), now[1])):
                with suppress(OSError, ValueError):
                    resource.setrlimit(number, wanted)
                    break
        for read, write, value in self._values:
            if read() != value:
                with suppress(Exception):
                    write(value)
        if gc.isenabled() is not self._collects:
            (gc.enable if self._collects else gc.disable)()
        if warnings.filters != self._filters:
            warnings.filters[:] = self._filters  # type: ignore[index]  # it is a list


def _lower(one: int, other: int) -> int:
    """Return the lower of two limits; no limit is the highest of all."""
    limits = [each for each in (one, other) if each != resource.RLIM_INFINITY]
    return min(limits, default=resource.RLIM_INFINITY)
