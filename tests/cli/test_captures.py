"""Test the words of `nm capture` that need no lab."""

from __future__ import annotations

import sys

import pytest

from tests.capture.pcap import need_libpcap
from tests.cli.conftest import Nm


def test_a_filter_that_does_not_parse_is_refused_before_anything_else(nm: Nm) -> None:
    need_libpcap()
    said = nm("capture", 1, "--filter", "tcp prot 80", "-o", "json")
    assert (said.code, said.error["id"]) == (2, "capture.filter")


def test_packets_are_not_written_to_a_terminal(nm: Nm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    said = nm("capture", 1, "-w", "-")
    assert said.code == 2
    assert "capture.terminal" in said.err


def test_packets_and_json_do_not_share_stdout(nm: Nm) -> None:
    said = nm("capture", 1, "-w", "-", "-o", "json")
    assert (said.code, said.error["id"]) == (2, "capture.stdout")


def test_a_capture_needs_a_lab(nm: Nm) -> None:
    said = nm("capture", 1, "-o", "json")
    assert (said.code, said.error["id"]) == (2, "lab.not-found")
