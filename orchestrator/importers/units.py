"""Read values of other programs: rates and times without a unit, and line rates by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from math import asin, cos, radians, sin, sqrt
from typing import Any

from orchestrator.errors import Place
from orchestrator.source import Problems, Value, parse_option
from orchestrator.topology.link_keys import LINK_FIELDS, layer, spec_of
from orchestrator.topology.writing import flow
from orchestrator.units import Duration, Rate

__all__ = [
    "conflict",
    "distance_delay",
    "line_rate",
    "link_value",
    "number_of",
    "plain_delay",
    "plain_rate",
    "plain_share",
]

# What light in fiber covers, about two thirds of its speed in vacuum.
_METRES_PER_SECOND = Fraction(299_792_458 * 2, 3)
# The mean radius of the Earth, in metres (IUGG).
_EARTH = 6_371_008.8

# ITU-T G.707 (STM-n), ANSI T1.105 (OC-n), G.702 (E and T carriers), in bits per second.
_NAMED = {
    "e1": 2_048_000,
    "e3": 34_368_000,
    "t1": 1_544_000,
    "t3": 44_736_000,
    "ds1": 1_544_000,
    "ds3": 44_736_000,
    "ethernet": 10_000_000,
    "fastethernet": 100_000_000,
    "fe": 100_000_000,
    "gige": 1_000_000_000,
    "ge": 1_000_000_000,
    "gigabitethernet": 1_000_000_000,
    "10ge": 10_000_000_000,
    "10gige": 10_000_000_000,
    "100ge": 100_000_000_000,
}
_MULTIPLES = {"oc": 51_840_000, "stm": 155_520_000}
_PREFIXES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_LEVEL = re.compile(r"(oc|stm)-?(\d{1,4})c?")
_AMOUNT = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([kmgt]?)(?:bits?/s(?:ec)?|bits?|bps|b/s|b)")
_LARGEST = 10**15


def line_rate(text: str) -> Rate | None:
    """Return the rate that a label such as `10 Gbps`, `OC-48` or `E3` names; None if it names none.

    Example:
        >>> line_rate("OC-3").bps
        155520000
    """
    folded = re.sub(r"[\s_]+", "", text.lower())
    if folded in _NAMED:
        return Rate(_NAMED[folded])
    level = _LEVEL.fullmatch(folded)
    if level is not None:
        return _rate(Fraction(int(level[2]) * _MULTIPLES[level[1]]))
    amount = _AMOUNT.fullmatch(folded)
    return _rate(Fraction(amount[1]) * _PREFIXES[amount[2]]) if amount is not None else None


def plain_rate(amount: str, factor: int) -> Rate | None:
    """Return a number of `factor` bits per second as a rate; None if it is no number above 0."""
    number = number_of(amount)
    return None if number is None else _rate(number * factor)


def plain_delay(amount: str, factor: int) -> Duration | None:
    """Return a number of `factor` microseconds as a duration, rounded; None if it is no number from 0."""
    number = number_of(amount)
    if number is None or number < 0 or number * factor > _LARGEST:
        return None
    return Duration(round(number * factor))


def plain_share(amount: str) -> str | None:
    """Return a number of per cent as a topology file writes it; None if it is none from 0 to 100."""
    number = number_of(amount)
    return None if number is None or not 0 <= number <= 100 else f"{float(number):.12g} %"


def number_of(text: str) -> Fraction | None:
    """Return a number, exactly; None if the text is none."""
    if len(text) > 40 or re.fullmatch(r"[-+]?\d+(\.\d*)?([eE][-+]?\d{1,2})?", text.strip()) is None:
        return None
    return Fraction(text.strip())


def distance_delay(a: tuple[float, float], b: tuple[float, float]) -> Duration:
    """Return how long light in fiber takes from one latitude and longitude to another, on a great circle.

    Source:
        The haversine formula, R. W. Sinnott, "Virtues of the haversine", Sky and Telescope 68(2), 1984.
    """
    (first, west), (second, east) = ((radians(x), radians(y)) for x, y in (a, b))
    h = sin((second - first) / 2) ** 2 + cos(first) * cos(second) * sin((east - west) / 2) ** 2
    metres = 2 * _EARTH * asin(min(1.0, sqrt(h)))
    return Duration(round(metres / float(_METRES_PER_SECOND) * 1_000_000))


def link_value(key: str, text: str) -> str | None:
    """Return the value of a link's key as a topology file writes it; None if it is none of that key."""
    problems = Problems("import")
    read = LINK_FIELDS[key].kind.read(Value(text, Place("import"), text), key, problems)
    return None if read is None or problems else text


def conflict(keys: Mapping[str, Any]) -> str:
    """Return why values of a link, valid one by one, do not go together; empty if they do."""
    problems = Problems("import")
    value = parse_option(flow(dict(keys)), Place("import"), problems)
    stated = value.mapping if value is not None else None
    read = {key: LINK_FIELDS[key].kind.read(below, key, problems) for key, below in (stated or {}).items()}
    try:
        spec_of(layer(read, "forward")).check()
    except ValueError as error:
        return str(error)
    return ""


def _rate(bps: Fraction) -> Rate | None:
    return Rate(round(bps)) if 1 <= bps <= _LARGEST else None
