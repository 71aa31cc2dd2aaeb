"""Test that unknown information is not guessed while the controller does not answer."""

from __future__ import annotations

import json

import pytest

from orchestrator.cli.main import run
from tests.lab.conftest import MakeLab


def test_link_show_is_an_error(make_lab: MakeLab, capsys: pytest.CaptureFixture[str]) -> None:
    make_lab()
    for words in (["link", "show"], ["link", "show", "1", "2"], ["link", "show", "-o", "json"]):
        assert run(words) == 5
        said = capsys.readouterr()
        assert said.out == ""
        assert "what the links of lab ring do now is not known" in said.err
        assert "controller.unreachable" in said.err


def test_inspect_says_unknown(make_lab: MakeLab, capsys: pytest.CaptureFixture[str]) -> None:
    make_lab()
    assert run(["inspect"]) == 0
    said = capsys.readouterr()
    assert "plain" not in said.out
    assert run(["inspect", "-o", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["groups"], shown["runs"]) == (None, None)
    assert {(x["state"], x["forward"], x["backward"]) for x in shown["links"]} == {("unknown", None, None)}
    assert shown["problems"]


def test_status_claims_nothing_of_links_and_external_nodes(
    make_lab: MakeLab, capsys: pytest.CaptureFixture[str]
) -> None:
    make_lab()
    assert run(["status"]) == 0
    said = capsys.readouterr()
    assert "links: 2, state unknown" in said.out
    assert "vacant" not in said.out  # only the controller knows whether the program runs
    assert said.err.strip()
