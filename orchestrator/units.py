"""Parse and format values with units: `20 ms`, `100 Mbit`, `0.1 %`, `64 KB`.

Inside the program the unit is in the type (`Duration`, `Rate`, `Size`); at a TOML, SQL or wire boundary it is
in the name (`delay_us`, `rate_bps`, `size_bytes`). Numbers are read exactly, as fractions, never through a
float. A value that is not a whole number of microseconds, bits per second or bytes is refused rather than
rounded.

A bare number has no unit and is refused where a unit matters, except zero and sizes in bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from orchestrator.errors import UnitInvalid, nearest_hint, quoted

__all__ = [
    "Duration",
    "Limit",
    "Rate",
    "Size",
    "parse_duration",
    "parse_fraction",
    "parse_limit",
    "parse_rate",
    "parse_size",
]

Scalar = str | int | float

# Values travel as signed 64-bit numbers in TOML and on the wire.
_LARGEST = 2**63 - 1

_DURATIONS = {
    "us": Fraction(1),
    "µs": Fraction(1),  # U+00B5, the micro sign
    "μs": Fraction(1),  # U+03BC, the Greek letter, which looks the same
    "ms": Fraction(1_000),
    "s": Fraction(1_000_000),
    "min": Fraction(60_000_000),
    "h": Fraction(3_600_000_000),
    "ns": Fraction(1, 1000),
}
_DECIMAL = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_PREFIXES = _DECIMAL | {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_NUMBER = re.compile(r"([+-]?(?:\d[\d_]*)(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True, order=True)
class Duration:
    """A length of time in whole microseconds."""

    us: int

    @property
    def seconds(self) -> float:
        """Return the duration in seconds."""
        return self.us / 1_000_000

    def __str__(self) -> str:
        return _shortest(
            self.us, (("min", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)), zero="0 ms"
        )


@dataclass(frozen=True, slots=True, order=True)
class Rate:
    """A rate in whole bits per second."""

    bps: int

    def __str__(self) -> str:
        units = (("Tbit", 10**12), ("Gbit", 10**9), ("Mbit", 10**6), ("kbit", 10**3), ("bit", 1))
        return _shortest(self.bps, units, zero="0 bit")


@dataclass(frozen=True, slots=True, order=True)
class Size:
    """A size in whole bytes."""

    bytes: int

    def __str__(self) -> str:
        units = (
            ("TB", 10**12),
            ("GiB", 2**30),
            ("GB", 10**9),
            ("MiB", 2**20),
            ("MB", 10**6),
            ("KiB", 2**10),
            ("KB", 10**3),
            ("B", 1),
        )
        return _shortest(self.bytes, units, zero="0 B")


@dataclass(frozen=True, slots=True)
class Limit:
    """A queue limit, in bytes, in packets or in microseconds of the rate; exactly one of them is set."""

    bytes: int | None = None
    packets: int | None = None
    us: int | None = None

    def __str__(self) -> str:
        if self.us is not None:
            return str(Duration(self.us))
        if self.packets is not None:
            return "1 packet" if self.packets == 1 else f"{self.packets} packets"
        return str(Size(self.bytes or 0))


def parse_duration(value: Scalar) -> Duration:
    """Read a duration such as `20 ms`, `1.5 s` or `0`.

    Raises:
        UnitInvalid: The value is no number with a unit of time, is negative, or is finer than a microsecond.

    Example:
        >>> parse_duration("1.5 ms")
        Duration(us=1500)
    """
    what = "a duration such as `20 ms`"
    number, unit = _split(value, what)
    if not unit:
        if number == 0:
            return Duration(0)
        raise _no_unit(value, what, f"write `{_show(value)} ms` or `{_show(value)} s`")
    factor = _DURATIONS.get(unit.lower())
    if factor is None:
        raise _unknown_unit(value, unit, what, "time", ("us", "ms", "s", "min", "h"))
    return Duration(_whole(value, number * factor, what, "microseconds"))


def parse_rate(value: Scalar) -> Rate:
    """Read a rate such as `100 Mbit`, `1.5 Gbit/s`, `20 Mbps` or, in bytes, `12 MB/s`.

    Raises:
        UnitInvalid: The value is no number with a unit of rate, or is not more than 0.

    Example:
        >>> parse_rate("100 Mbit")
        Rate(bps=100000000)
    """
    what = "a rate such as `100 Mbit`"
    number, unit = _split(value, what)
    if not unit:
        raise _no_unit(value, what, f"write `{_show(value)} Mbit`, or the unit that is meant")
    factor = _rate_factor(unit)
    if factor is None:
        # `100 MB` is an amount; what was meant is most likely that much a second.
        per_second = f"{unit}/s" if _rate_factor(f"{unit}/s") else None
        known = (per_second,) if per_second else ("bit", "kbit", "Mbit", "Gbit", "Mbit/s", "MB/s")
        raise _unknown_unit(value, unit, what, "rate", known)
    bps = _whole(value, number * factor, what, "bits per second")
    if bps == 0:
        raise UnitInvalid(
            _show(value),
            "at a rate of nothing no packet would ever pass",
            expected=what,
            hint="to stop traffic write `loss: 100 %`; for no limit leave the rate out",
        )
    return Rate(bps)


def parse_size(value: Scalar) -> Size:
    """Read a size such as `64 KB`, `1 MiB` or a bare number of bytes.

    Raises:
        UnitInvalid: The value is no number with a unit of size, is negative or not a whole number of bytes.

    Example:
        >>> parse_size("1 MiB")
        Size(bytes=1048576)
    """
    what = "a size such as `64 KB`"
    number, unit = _split(value, what)
    factor = _size_factor(unit)
    if factor is None:
        raise _unknown_unit(value, unit, what, "size", ("B", "KB", "MB", "GB", "KiB", "MiB", "GiB"))
    return Size(_whole(value, number * factor, what, "bytes"))


def parse_limit(value: Scalar) -> Limit:
    """Read a queue limit: `100 packets`, a size with its unit such as `64 KB`, or a time such as `20 ms`.

    Raises:
        UnitInvalid: The value has no unit, so bytes and packets cannot be told apart, or leaves no room at
            all.
    """
    what = "a queue limit such as `100 packets`, `64 KB` or `20 ms`"
    number, unit = _split(value, what)
    if not unit:
        raise _no_unit(value, what, f"write `{_show(value)} packets` or `{_show(value)} B`")
    packets, time = unit.lower() in ("packet", "packets"), _DURATIONS.get(unit.lower())
    factor = 1 if packets else time or _size_factor(unit)
    if factor is None:
        raise _unknown_unit(value, unit, what, "size", ("packets", "B", "KB", "MB", "KiB", "MiB", "ms"))
    count = _whole(
        value, number * factor, what, "packets" if packets else "microseconds" if time else "bytes"
    )
    if count == 0:
        raise UnitInvalid(
            _show(value),
            "that leaves no room for a single packet",
            expected=what,
            hint="leave the limit out, or write at least `1 packet`",
        )
    if time:
        return Limit(us=count)
    return Limit(packets=count) if packets else Limit(bytes=count)


def parse_fraction(value: Scalar) -> float:
    """Read a probability: `0.1 %`, or a number with a point between 0 and 1 such as `0.001`.

    A bare `1` could mean one per cent or everything, so it is refused.

    Raises:
        UnitInvalid: The value is no probability.
    """
    what = "a probability between 0 and 1, or `0 %` to `100 %`"
    number, unit = _split(value, what)
    shown = _show(value)
    if unit not in ("", "%"):
        raise _unknown_unit(value, unit, what, "probability", ("%",))
    fraction = number / 100 if unit == "%" else number
    if not 0 <= fraction <= 1:
        hint = (
            f"write `{shown}%` or `{float(number / 100):.12g}`" if not unit and 0 <= number <= 100 else None
        )
        raise UnitInvalid(shown, "a probability lies between 0 and 1", expected=what, hint=hint)
    if not unit and number == 1:
        raise UnitInvalid(
            shown, "that may mean one per cent or everything", expected=what, hint="write `1 %` or `100 %`"
        )
    return float(fraction)


def _split(value: Scalar, what: str) -> tuple[Fraction, str]:
    """Take a value apart into its exact number and its unit."""
    text = _show(value)
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        raise UnitInvalid(text, f"{what} is expected", expected=what)
    digits, unit = match[1].replace("_", ""), match[2].strip()
    _, _, exponent = digits.lower().partition("e")
    if len(digits) > 40 or (exponent and abs(int(exponent)) > 18):
        raise UnitInvalid(text, f"{what} is expected", expected=what)
    number = Fraction(digits)
    if number < 0:
        raise UnitInvalid(text, "it cannot be negative", expected=what)
    return number, unit


def _whole(value: Scalar, amount: Fraction, what: str, unit: str) -> int:
    if amount.denominator != 1:
        raise UnitInvalid(
            _show(value), f"it has to be a whole number of {unit}", expected=f"a whole number of {unit}"
        )
    if amount > _LARGEST:
        raise UnitInvalid(_show(value), "that is more than can be counted", expected=what)
    return int(amount)


def _rate_factor(unit: str) -> int | None:
    """Return bits per second in one of `unit`; `b` and `B` differ, everything else is read in either case."""
    body = unit.removesuffix("/s") if unit.endswith("/s") else unit.removesuffix("ps")
    per_second = body != unit
    for name, bits in (("bits", 1), ("bit", 1), ("b", 1), ("B", 8)):
        if not (body.lower().endswith(name) if len(name) > 1 else body.endswith(name)):
            continue
        if len(name) == 1 and not per_second:
            return None  # `100 Mb` and `100 MB` look like sizes
        prefix = _PREFIXES.get(body[: -len(name)].lower())
        return None if prefix is None else bits * prefix
    return None


def _size_factor(unit: str) -> int | None:
    body = unit.strip()
    if body.lower() in ("", "byte", "bytes"):
        return 1
    return _PREFIXES.get(body[:-1].lower()) if body.endswith("B") else None


def _unknown_unit(value: Scalar, unit: str, what: str, kind: str, known: tuple[str, ...]) -> UnitInvalid:
    shown = unit if len(unit) <= 20 else unit[:20] + "…"
    hint = nearest_hint(unit, known, otherwise=f"units are {quoted(known)}")
    return UnitInvalid(_show(value), f"`{shown}` is no unit of {kind}", expected=what, hint=hint)


def _no_unit(value: Scalar, what: str, hint: str) -> UnitInvalid:
    return UnitInvalid(_show(value), "it needs a unit", expected=what, hint=hint)


def _show(value: Scalar) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:60] + "…"


def _shortest(amount: int, units: tuple[tuple[str, int], ...], *, zero: str) -> str:
    """Write an amount exactly, in the unit that takes the fewest characters."""
    if amount == 0:
        return zero
    shown: list[str] = []
    for name, factor in units:
        scaled = Fraction(amount, factor) * 1000
        if scaled >= 1000 and scaled.denominator == 1:
            whole, rest = divmod(int(scaled), 1000)
            decimals = f".{rest:03d}".rstrip("0") if rest else ""
            shown.append(f"{whole}{decimals} {name}")
    return min(shown, key=len)  # never empty: the last unit is 1
