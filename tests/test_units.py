"""Test parsing and formatting of values with units."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import UnitInvalid
from orchestrator.units import (
    Duration,
    Limit,
    Rate,
    Size,
    parse_duration,
    parse_fraction,
    parse_limit,
    parse_rate,
    parse_size,
)

Parser = Callable[[Any], Any]


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("20 ms", 20_000),
        ("20ms", 20_000),
        ("1.5 s", 1_500_000),
        ("0.1 s", 100_000),
        ("2 min", 120_000_000),
        ("1 h", 3_600_000_000),
        ("50 µs", 50),
        ("50 μs", 50),
        ("50us", 50),
        ("3000 ns", 3),
        ("0", 0),
        (0, 0),
        ("1e3 ms", 1_000_000),
        (" 7 MS ", 7_000),
        ("1_000 us", 1_000),
    ],
)
def test_durations(text: str | int, us: int) -> None:
    assert parse_duration(text) == Duration(us)


@pytest.mark.parametrize(
    ("text", "bps"),
    [
        ("100 Mbit", 10**8),
        ("1.5 Gbit/s", 15 * 10**8),
        ("20 Mbps", 2 * 10**7),
        ("64 kbit", 64_000),
        ("64Kbit", 64_000),
        ("12 MB/s", 96_000_000),
        ("12 MBps", 96_000_000),
        ("8 Mb/s", 8_000_000),
        ("1 Tbit", 10**12),
        ("300 bit", 300),
        ("1 Mibit", 2**20),
        ("1 bit/s", 1),
    ],
)
def test_rates_tell_bits_from_bytes(text: str, bps: int) -> None:
    assert parse_rate(text) == Rate(bps)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("64 KB", 64_000),
        ("64 kB", 64_000),
        ("1 MiB", 2**20),
        ("1000000", 10**6),
        (512, 512),
        ("90 MB", 9 * 10**7),
        ("3 B", 3),
        ("3 bytes", 3),
        ("1.5 KiB", 1536),
        ("0", 0),
    ],
)
def test_sizes(text: str | int, count: int) -> None:
    assert parse_size(text) == Size(count)


@pytest.mark.parametrize(
    ("text", "fraction"),
    [
        ("0.1 %", 0.001),
        ("5%", 0.05),
        ("100 %", 1.0),
        ("0 %", 0.0),
        (0, 0.0),
        ("0", 0.0),
        (0.05, 0.05),
        ("1 %", 0.01),
        ("1e-5", 1e-5),
        ("12.5 %", 0.125),
    ],
)
def test_fractions(text: str | float, fraction: float) -> None:
    assert parse_fraction(text) == fraction


def test_limits_are_in_packets_or_in_bytes() -> None:
    assert parse_limit("100 packets") == Limit(packets=100)
    assert parse_limit("1 packet") == Limit(packets=1)
    assert parse_limit("64 KB") == Limit(bytes=64_000)


@pytest.mark.parametrize(
    ("parse", "value", "reason", "hint"),
    [
        (parse_duration, "20 mz", "`mz` is no unit of time", "units are `us`, `ms`, `s`, `min`, `h`"),
        (parse_duration, "20 mss", "`mss` is no unit of time", "did you mean `ms`?"),
        (parse_duration, 20, "it needs a unit", "write `20 ms` or `20 s`"),
        (parse_duration, "0.5 us", "it has to be a whole number of microseconds", None),
        (parse_duration, "-1 s", "it cannot be negative", None),
        (parse_duration, "soon", "a duration such as `20 ms` is expected", None),
        (parse_duration, "", "a duration such as `20 ms` is expected", None),
        (parse_rate, "100 Mb", "`Mb` is no unit of rate", "did you mean `Mb/s`?"),
        (parse_rate, "100 MB", "`MB` is no unit of rate", "did you mean `MB/s`?"),
        (parse_rate, 100, "it needs a unit", "write `100 Mbit`, or the unit that is meant"),
        (parse_rate, "0 Mbit", "at a rate of nothing no packet would ever pass", "to stop traffic write"),
        (parse_rate, "0.5 bit", "it has to be a whole number of bits per second", None),
        (parse_rate, "1e18 Tbit", "that is more than can be counted", None),
        (parse_rate, "1e999999999 bit", "a rate such as `100 Mbit` is expected", None),
        (parse_size, "3 apples", "`apples` is no unit of size", "units are"),
        (parse_size, "0.5", "it has to be a whole number of bytes", None),
        (parse_limit, "100", "it needs a unit", "write `100 packets` or `100 B`"),
        (parse_limit, "0 packets", "that leaves no room for a single packet", "leave the limit out"),
        (parse_fraction, 5, "a probability lies between 0 and 1", "write `5%` or `0.05`"),
        (parse_fraction, "101 %", "a probability lies between 0 and 1", None),
        (parse_fraction, 1, "that may mean one per cent or everything", "write `1 %` or `100 %`"),
        (parse_fraction, "3 ms", "`ms` is no unit of probability", "units are `%`"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_reason(
    parse: Parser, value: object, reason: str, hint: str | None
) -> None:
    with pytest.raises(UnitInvalid) as caught:
        parse(value)
    assert caught.value.reason == reason
    assert caught.value.found == str(value)
    if hint is None:
        assert caught.value.hint is None
    else:
        assert caught.value.hint is not None
        assert caught.value.hint.startswith(hint)


@given(st.integers(0, 2**62))
def test_a_duration_survives_being_written(us: int) -> None:
    assert parse_duration(str(Duration(us))) == Duration(us)


@given(st.integers(1, 2**62))
def test_a_rate_survives_being_written(bps: int) -> None:
    assert parse_rate(str(Rate(bps))) == Rate(bps)


@given(st.integers(0, 2**62))
def test_a_size_survives_being_written(count: int) -> None:
    assert parse_size(str(Size(count))) == Size(count)


@given(st.integers(1, 2**31), st.booleans())
def test_a_limit_survives_being_written(count: int, packets: bool) -> None:
    limit = Limit(packets=count) if packets else Limit(bytes=count)
    assert parse_limit(str(limit)) == limit


@given(st.integers(0, 10**9), st.integers(0, 3))
def test_a_decimal_is_read_exactly(amount: int, decimals: int) -> None:
    """What a float would round, such as 0.1 s, comes out to the microsecond."""
    text = f"{amount // 10**decimals}.{amount % 10**decimals:0{decimals}d}" if decimals else str(amount)
    assert parse_duration(f"{text} ms").us * 10**decimals == amount * 1000


@given(st.floats(0, 1, exclude_max=True))
def test_a_probability_survives_being_written(fraction: float) -> None:
    if fraction and fraction < 1e-17:
        return  # beyond the exponents that are taken for meant
    assert parse_fraction(repr(fraction)) == fraction


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (parse_duration, parse_rate, parse_size, parse_limit, parse_fraction):
        try:
            parse(text)
        except UnitInvalid as error:
            assert error.reason


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Duration(0), "0 ms"),
        (Duration(90_000_000), "90 s"),
        (Duration(1_500), "1.5 ms"),
        (Rate(96_000_000), "96 Mbit"),
        (Size(64_000), "64 KB"),
        (Size(2**20), "1 MiB"),
        (Limit(packets=1), "1 packet"),
    ],
)
def test_values_are_written_as_a_person_would(value: object, text: str) -> None:
    assert str(value) == text
