"""The exception that stops a role."""

from __future__ import annotations

__all__ = ["RoleFailed", "RoleStopped"]


class RoleStopped(BaseException):
    """The role has to end. Not an `Exception`, so that `except Exception` does not swallow it."""


class RoleFailed(Exception):
    """A role failed in its own process, whose report this is.

    Attributes:
        error: One sentence.
        traceback: Empty unless the role's own code raised.
    """

    def __init__(self, error: str, traceback: str = "") -> None:
        super().__init__(error)
        self.error = error
        self.traceback = traceback
