"""Run an example as it stands, with a real settings file where it says `/abs/path/to/...`.

Usage: python run_seed.py EXAMPLE SETTINGS
"""

from __future__ import annotations

import runpy
import sys
from typing import Any

import nextmini_py


class Placed(nextmini_py.Dataplane):
    """A dataplane whose file is the one on the command line, whatever the example calls it."""

    def __init__(self, config_path: str, **options: Any) -> None:
        assert config_path.startswith("/abs/path/to/"), config_path
        super().__init__(sys.argv[2], **options)


if __name__ == "__main__":
    vars(nextmini_py)["Dataplane"] = Placed
    runpy.run_path(sys.argv[1], run_name="__main__")
