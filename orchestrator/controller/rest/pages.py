"""Further paths on the controller's port, such as metrics as text."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

__all__ = ["Page"]


@dataclass(frozen=True, slots=True)
class Page:
    """Something that is answered to GET.

    Attributes:
        media_type: Of the answer.
        make: Makes the body; an `NmError` of it becomes an answer as well.
        token: Whether the operator's token is required.
    """

    media_type: str
    make: Callable[[], Awaitable[bytes]]
    token: bool = True
