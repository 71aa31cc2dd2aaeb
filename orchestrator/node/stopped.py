"""The exception that stops a role."""

from __future__ import annotations

__all__ = ["RoleStopped"]


class RoleStopped(BaseException):
    """The role has to end. Not an `Exception`, so that `except Exception` does not swallow it."""
