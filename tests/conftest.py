"""What every circle starts from."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Let Ctrl-C and SIGQUIT work in the programs that tests start.

    A shell that starts a job in the background lets it ignore both, and whatever the job starts inherits
    that; a handler of our own, here Python's usual one, is reset to the default in a child.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGQUIT) is signal.SIG_IGN:
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)
