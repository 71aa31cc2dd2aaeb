"""What a command line did."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

__all__ = ["CommandResult"]


@dataclass(frozen=True)
class CommandResult:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What was printed, with `-o json`."""
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        """The error, with `-o json`; it is the last line."""
        return json.loads(self.err.splitlines()[-1])["error"]
