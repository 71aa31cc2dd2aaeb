"""Save process-wide interpreter settings before roles run, and restore them afterwards.

A role may lower a resource limit, change how the interpreter works, or replace functions of shared modules
and classes. Without restoring, later roles and the nodes in this process would be affected.
"""

from __future__ import annotations

import gc
import os
import resource
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

__all__ = ["Settings"]

_SHARED = (
    "asyncio",
    "builtins",
    "json",
    "logging",
    "nextmini_py",
    "orchestrator",
    "os",
    "socket",
    "threading",
    "time",
)
"""Modules that the agent and every role use, with all below them."""

_CODE = (FunctionType, BuiltinFunctionType, type, ModuleType, staticmethod, classmethod, property)

_HEAP_TYPE = 1 << 9  # of a class that Python code made, and may change; Include/object.h

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
            (os.geteuid, os.seteuid),
            (os.getegid, os.setegid),
        ]
        self._values = [(read, write, read()) for read, write in read_and_write]
        self._code = _code()

    def restore(self) -> None:
        """Make them what they were, as far as the kernel allows: a hard limit is raised by root alone."""
        for number, (soft, hard) in self._limits.items():
            now = resource.getrlimit(number)
            if now == (soft, hard):
                continue
            for wanted in ((soft, hard), (_lower_limit(soft, now[1]), now[1])):
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
        for owner, attributes in self._code:
            now = vars(owner)
            for name, value in attributes.items():
                if now.get(name) is not value:
                    with suppress(AttributeError, TypeError):
                        setattr(owner, name, value)


def _code() -> list[tuple[Any, dict[str, Any]]]:
    """Return modules and classes with their functions, classes and modules; data of theirs may change."""
    found: list[tuple[Any, dict[str, Any]]] = []
    for name, module in sorted(sys.modules.items()):
        if name.partition(".")[0] not in _SHARED or not isinstance(module, ModuleType):
            continue
        here = {key: value for key, value in vars(module).items() if isinstance(value, _CODE)}
        found.append((module, here))
        for value in here.values():
            if isinstance(value, type) and value.__module__ == name and value.__flags__ & _HEAP_TYPE:
                inside = {key: each for key, each in vars(value).items() if isinstance(each, _CODE)}
                found.append((value, inside))
    return found


def _lower_limit(one: int, other: int) -> int:
    """Return the lower of two limits; no limit is the highest of all."""
    limits = [each for each in (one, other) if each != resource.RLIM_INFINITY]
    return min(limits, default=resource.RLIM_INFINITY)
