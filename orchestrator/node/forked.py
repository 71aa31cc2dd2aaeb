"""Protect the node's descriptors from processes that a role forks.

A forked child has a copy of the whole process and none of its other threads. It would share descriptors with
the node: a signal that it gets, a read from a device or a change of an event loop would affect the node. So
it closes them at once, and it exits where the role would end.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

__all__ = ["close_in_child", "in_child", "install", "leave"]

_close_in_child: dict[int, str] = {}
_in_child: list[Callable[[], None]] = []
_installed = False


def install() -> None:
    """Prepare for forks of this process; a second call changes nothing."""
    global _installed
    if not _installed:
        _installed = True
        os.register_at_fork(after_in_child=_child)


def close_in_child(descriptors: Mapping[int, str]) -> None:
    """Set the descriptors that a child has to close, each with its identity from `/proc`.

    One that has become something else by then, because the node closed it and a role opened another, is kept.
    """
    _close_in_child.clear()
    _close_in_child.update(descriptors)


def in_child(work: Callable[[], None]) -> None:
    """Have something done in each child, first of all; it must not raise."""
    _in_child.append(work)


def leave(error: BaseException | None) -> NoReturn:
    """End the child where it left the role: by `return`, `sys.exit` or an exception.

    Nothing of the interpreter is shut down in order: it would end what belongs to the node.
    """
    code: object = 0
    if isinstance(error, SystemExit):
        code = error.code
    elif error is not None:
        with suppress(Exception):
            traceback.print_exception(error)
        code = 1
    if code is None:
        code = 0
    elif not isinstance(code, int):
        with suppress(Exception):
            print(code, file=sys.stderr)
        code = 1
    with suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code & 0xFF)


def _child() -> None:
    for work in _in_child:
        work()
    # A signal for the child would otherwise wake the node's loop, through a descriptor that both have.
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    for descriptor, kind in _close_in_child.items():
        with suppress(OSError):
            if str(Path(f"/proc/self/fd/{descriptor}").readlink()) == kind:
                os.close(descriptor)
