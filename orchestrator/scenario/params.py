"""The typed parameters of a scenario, read alike from a file, a command line and Python."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator import units
from orchestrator.errors import UnitInvalid, quoted

__all__ = ["TYPES", "Param", "ParamInvalid"]

_WHOLE = re.compile(r"[-+]?[0-9][0-9_]*")


class ParamInvalid(Exception):
    """A value does not fit its parameter; a caller that knows the place turns it into a problem."""

    def __init__(self, reason: str, expected: str, hint: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.expected = expected
        self.hint = hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Param:
    """One parameter of a scenario.

    Attributes:
        name: What stands before `=` in `--param`.
        type: One of `TYPES`.
        default: The value without `--param`; None if one has to be given.
        help: One line for `nm scenarios`.
        min: The smallest value, in the unit that roles see.
        max: The largest.
        choices: The only values, if there are few.
    """

    name: str
    type: str
    default: Any = None
    help: str = ""
    min: Any = None
    max: Any = None
    choices: tuple[Any, ...] = ()

    def read(self, value: object, folder: Path | None = None) -> Any:
        """Return a value as roles see it: seconds, bits per second, bytes as plain numbers, files as paths.

        Args:
            value: Text from a file or command line, or a value of the right type from Python.
            folder: What a relative file name starts from; the working folder unless given.

        Raises:
            ParamInvalid: The value is of the wrong type, out of range, not among the choices or no usable
                file.
        """
        kind = TYPES[self.type]
        try:
            read = kind.read(value)
        except UnitInvalid as error:
            raise ParamInvalid(error.reason, error.expected or kind.expected, error.hint) from None
        if read is None:
            raise ParamInvalid(f"{kind.expected} is expected", kind.expected)
        if self.choices and read not in self.choices:
            raise ParamInvalid(
                "it is not among the choices", quoted(self.choices), f"choose from {quoted(self.choices)}"
            )
        if self.min is not None and read < self.min:
            raise ParamInvalid(f"at least {kind.show(self.min)} is needed", f"at least {kind.show(self.min)}")
        if self.max is not None and read > self.max:
            raise ParamInvalid(f"at most {kind.show(self.max)} is allowed", f"at most {kind.show(self.max)}")
        return _file(read, folder) if self.type == "file" else read

    def show(self, value: Any) -> str:
        """Return a value as a person would write it."""
        return TYPES[self.type].show(value)


@dataclass(frozen=True, slots=True)
class _Type:
    expected: str
    read: Callable[[object], Any]
    show: Callable[[Any], str] = str


def _whole(value: object) -> int | None:
    if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: object) -> float | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if value == value else None  # nan compares with nothing, so no range could hold it


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _boolean(value: object) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().lower())
    return value if isinstance(value, bool) else None


def _unit(parse: Callable[[str], Any], amount: Callable[[Any], Any]) -> Callable[[object], Any]:
    """Read text with a unit; a plain number from Python is already in the unit that roles see."""

    def read(value: object) -> Any:
        if isinstance(value, str):
            return amount(parse(value))
        return (
            value if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0 else None
        )

    return read


def _file(text: str, folder: Path | None) -> str:
    """Return the absolute path of a file that is there and not empty; no text stays no file."""
    if not text:
        return ""
    path = Path(text).expanduser()
    path = path if path.is_absolute() else (folder or Path.cwd()) / path
    expected = "a file that is there and not empty"
    try:
        if path.is_dir():
            raise ParamInvalid("that is a folder", expected)
        if path.stat().st_size == 0:
            raise ParamInvalid("the file is empty", expected)
        with path.open("rb"):
            return str(path.resolve())
    except FileNotFoundError:
        raise ParamInvalid("there is no such file", expected, _missing_hint(path)) from None
    except OSError as error:
        raise ParamInvalid(f"the file cannot be read: {error.strerror}", expected) from None


def _missing_hint(path: Path) -> str:
    return f"it would be {path}" if path.parent.is_dir() else f"there is no folder {path.parent} either"


TYPES: Mapping[str, _Type] = {
    "int": _Type("a whole number", _whole),
    "float": _Type("a number", _number, lambda value: f"{value:g}"),
    "str": _Type("text", _text),
    "bool": _Type("true or false", _boolean, lambda value: "true" if value else "false"),
    "size": _Type(
        "a size such as `64 KB`",
        _unit(units.parse_size, lambda size: size.bytes),
        lambda value: str(units.Size(int(value))),
    ),
    "duration": _Type(
        "a duration such as `20 ms`",
        _unit(units.parse_duration, lambda duration: duration.seconds),
        lambda value: str(units.Duration(round(value * 1_000_000))),
    ),
    "rate": _Type(
        "a rate such as `20 Mbit`",
        _unit(units.parse_rate, lambda rate: rate.bps),
        lambda value: str(units.Rate(int(value))),
    ),
    "file": _Type("the name of a file", _text),
}
"""What a parameter can be. Roles see durations in seconds, rates in bits per second, sizes in bytes."""
