"""Fixtures of all tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.slow_callbacks import watched


def pytest_configure() -> None:
    """Let Ctrl-C and SIGQUIT work in the programs that tests start.

    A shell that starts a job in the background lets it ignore both, and whatever the job starts inherits
    that; a handler of our own, here Python's usual one, is reset to the default in a child.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGQUIT) is signal.SIG_IGN:
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)


_ASYNC = {"controller", "lab", "node", "store", "transport"}
"""Folders whose tests run our event loops in this process."""


@pytest.fixture(autouse=True)
def _no_callback_holds_up_its_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test in which something on an event loop waited or worked for too long."""
    if request.path.parent.name not in _ASYNC:
        yield
        return
    with watched() as slow:
        yield
    if slow:
        pytest.fail("the event loop was held up:\n" + "\n".join(slow))
