"""Locate the data files that ship with the program.

Topologies, scenarios and compose templates are data, not modules: they are next to the packages in a
checkout, and under `<prefix>/share/nm` when the program was installed from a wheel.
"""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["KINDS", "path"]

KINDS = ("topologies", "scenarios", "compose", "images")

_CHECKOUT = Path(__file__).resolve().parent.parent
_INSTALLED = Path(sys.prefix) / "share" / "nm"


def path(kind: str) -> Path:
    """Return the folder of one kind of shipped file.

    Args:
        kind: One of `KINDS`.

    Raises:
        ValueError: There is no such kind; this is a mistake in the program, not in its use.
        FileNotFoundError: The installation is incomplete.
    """
    if kind not in KINDS:
        raise ValueError(f"no resources are called {kind!r}")
    for root in (_CHECKOUT, _INSTALLED):
        if (root / kind).is_dir():
            return root / kind
    raise FileNotFoundError(f"{kind} is neither in {_CHECKOUT} nor in {_INSTALLED}")
