"""Test the compilation of filters by libpcap, and what is said without it."""

from __future__ import annotations

import ctypes

import pytest

from orchestrator.capture import FilterInvalid, compile_filter, filters
from orchestrator.errors import HostNotFit, NmError
from tests.capture.pcap import need_libpcap


def test_an_expression_becomes_a_program_that_ends_with_a_return() -> None:
    need_libpcap()
    program = compile_filter("tcp port 5201")
    assert program.expression == "tcp port 5201"
    assert program.instructions[-1][0] == 0x06
    assert any(constant == 5201 for _code, _jt, _jf, constant in program.instructions)
    assert set(program.as_json()[0]) == {"code", "jt", "jf", "k"}


def test_no_expression_needs_no_libpcap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "_NAMES", ())
    assert compile_filter(" ").instructions == ()


@pytest.mark.parametrize("expression", ["tcp prot 80", "port", "ether host 1:2:3:4:5:6", "tcp\0", "\udc80"])
def test_what_does_not_parse_is_refused_with_libpcaps_words(expression: str) -> None:
    need_libpcap()
    with pytest.raises(FilterInvalid) as caught:
        compile_filter(expression)
    assert (caught.value.exit_code, caught.value.id) == (2, "capture.filter")
    assert caught.value.message


def test_without_libpcap_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> ctypes.CDLL:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(HostNotFit) as caught:
        compile_filter("tcp")
    error: NmError = caught.value
    assert (error.exit_code, error.id) == (4, "capture.no-libpcap")
    assert "libpcap0.8" in (error.hint or "")
