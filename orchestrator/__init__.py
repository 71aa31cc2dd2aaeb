"""Bring emulated networks up from topology files, run experiments in them, and take them down.

Layers; imports only point down:

    9  cli · testing          the command line; pytest fixtures
    8  lab                    the SDK; the command line is a thin wrapper around it
    7  render · deploy · controller · node · results
    6  transport              moves protocol bytes
    5  plan · scenario · store · settings
    4  topology · protocol
    3  impairment · fields    what a link does to packets; the keys that a file may have
    2  units · source         values with units; YAML and TOML with line and column
    1  errors · log · clock · procfs · syscalls · resources · supervisor

Importing this package imports no other module: a node agent does not load Docker's SDK, and `nm validate`
does not load psycopg. The names below are imported on first use; `__init__.pyi` declares them for type
checkers.
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
