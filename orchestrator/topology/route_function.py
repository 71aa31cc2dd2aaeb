"""Call the user's function that computes routes from a topology.

It runs in the process that reads the file, with the rights of its user, as the roles of a scenario do. What
it returns is checked like `routes` of the file.
"""

from __future__ import annotations

import importlib.util
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from orchestrator.errors import Place
from orchestrator.source import Problems, Value
from orchestrator.topology.model import Topology

__all__ = ["called", "entries_of"]

MOST_ROUTES = 100_000
"""Routes that a function may return: what the controller and its nodes take in one message."""


def called(value: Value, topology: Topology, directory: Path, problems: Problems) -> list[Any]:
    """Return what a function returns for a topology, as a list; nothing after a problem was noted.

    Args:
        value: The function, as `FILE.py:NAME`.
        topology: The topology, without routes that were computed.
        directory: What the name of the file is relative to.
        problems: Where problems are noted.
    """
    file, colon, name = value.text.rpartition(":")
    if not colon or not file.endswith(".py") or not name.isidentifier():
        problems.add(
            f"`{value.text}` names no function",
            "routing-function",
            value.place,
            found=value.text,
            expected="a file and a function in it",
            hint="for example `routes.py:compute`",
        )
        return []
    path = directory / file
    if not path.is_file():
        problems.add(f"there is no file `{path}`", "routing-function", value.place, found=file)
        return []
    try:
        spec = importlib.util.spec_from_file_location(f"nm_routing_{path.stem}", path)
        assert spec is not None and spec.loader is not None, "a file that ends with .py has a loader"
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        function = getattr(module, name, None)
        if not callable(function):
            problems.add(f"`{file}` has no function `{name}`", "routing-function", value.place, found=name)
            return []
        found = []
        for entry in function(topology):
            found.append(entry)
            if len(found) > MOST_ROUTES:
                raise ValueError(f"it returns more than {MOST_ROUTES} routes")
        return found
    except (Exception, SystemExit) as error:
        problems.add(
            f"the function `{value.text}` failed: {type(error).__name__}: {error}",
            "routing-function",
            value.place,
            found=_line_of(error, path),
            expected="an iterable of routes",
        )
        return []


def entries_of(returned: Iterable[Any], place: Place, problems: Problems) -> list[Value]:
    """Return the routes of a function as values of a file; each is a mapping as in `routes`, or a path."""
    found = []
    for number, entry in enumerate(returned, start=1):
        if isinstance(entry, Mapping):
            found.append(_value(dict(entry), place))
        elif isinstance(entry, list | tuple) and len(entry) > 1:
            found.append(_value({"from": entry[0], "to": entry[-1], "path": list(entry)}, place))
        else:
            problems.add(
                f"route {number} of the function is {type(entry).__name__}",
                "routing-function",
                place,
                found=repr(entry)[:100],
                expected="a mapping with `from`, `to`, and `path` or `edges`, or a list of nodes",
            )
            break
    return found


def _value(data: Any, place: Place) -> Value:
    """Return what was made in Python as a value that was read."""
    if isinstance(data, dict):
        parts = {str(key): _value(each, place) for key, each in data.items()}
        return Value(parts, place, keys=dict.fromkeys(parts, place))
    if isinstance(data, list | tuple):
        return Value([_value(each, place) for each in data], place)
    number = int(data) if hasattr(data, "__index__") and not isinstance(data, bool) else data
    return Value(number, place, str(number))


def _line_of(error: BaseException, path: Path) -> str | None:
    """Return the last line of the user's file in the traceback of an error."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"{path.name}, line {frames[-1].lineno}: {frames[-1].line}" if frames else None
