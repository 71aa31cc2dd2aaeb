"""The orchestrator: from a topology file to a running lab, and back to nothing.

The house has floors, and stairs lead down only:

    9  cli · testing          what a person or a test suite touches
    8  lab                    the SDK: everything the command line does, it does through this
    7  render · deploy · controller · node · results
    6  transport              moves protocol bytes
    5  plan · scenario · store · settings
    4  topology · protocol
    3  impairment · fields    what a link does to packets; the keys that a file may have
    2  units · source         values with units; YAML and TOML with line and column
    1  errors · log · clock · resources · supervisor

Importing this package imports nothing else: a node agent must not pay for Docker, and `nm validate` must not
pay for Postgres. The names below are loaded when they are first asked for; `__init__.pyi` tells
type checkers what they are, so that not even an import for their sake stands here.
"""

from __future__ import annotations

__all__ = ["Lab", "NmError", "Topology", "__version__"]

__version__ = "0.1.0"

_HOMES = {
    "Lab": "orchestrator.lab",
    "NmError": "orchestrator.errors",
    "Topology": "orchestrator.topology",
}


def __getattr__(name: str) -> object:
    """Load a public name from its room the first time it is used."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)
