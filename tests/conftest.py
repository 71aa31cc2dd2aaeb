"""Fixtures of all tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

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


LONGEST = (
    "docs/test_pages.py",
    "system/test_docker.py",
    "integration/test_replaced.py",
    "system/test_recovery.py",
    "integration/test_run_ownership.py",
    "integration/test_failures_host.py",
    "integration/test_failures_runs.py",
    "integration/test_thousand_nodes.py",
    "integration/test_links.py",
    "integration/test_lab.py",
    "system/test_external_changes.py",
    "integration/test_healing.py",
    "integration/test_interrupts.py",
    "integration/test_programs.py",
    "integration/test_transfers.py",
    "integration/test_timelines.py",
    "integration/test_failures.py",
    "integration/test_rootless.py",
    "integration/test_kills.py",
    "system/test_isolation.py",
    "integration/test_scenarios.py",
    "integration/test_run_floods.py",
    "integration/test_processes.py",
    "system/test_programs.py",
)
"""The files that take longest on their own, the longest first: begun last, one of them would run alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first; the order within a file stays."""
    tests = Path(__file__).parent
    place = {tests / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


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
