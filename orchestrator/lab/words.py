"""Read a command that is given as text or as words."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from orchestrator.errors import UsageError

__all__ = ["words_of"]


def words_of(command: Sequence[str] | str) -> list[str]:
    """Return a command as words.

    Raises:
        UsageError: It is empty, or a quotation in it does not end.
    """
    try:
        words = shlex.split(command) if isinstance(command, str) else [str(word) for word in command]
    except ValueError as error:
        raise UsageError(f"the command cannot be split into words: {error}", found=str(command)) from error
    if not words:
        raise UsageError("there is no command to run", expected="a program and its arguments")
    return words
