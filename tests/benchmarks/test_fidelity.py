"""Test the table of the fidelity benchmark."""

from __future__ import annotations

import pytest

from benchmarks.fidelity.report import sections


@pytest.mark.parametrize(("inside", "said"), [(True, ", inside 95 %: yes: kept"), (None, "loss % 1: kept")])
def test_a_loss_states_whether_it_is_inside_of_its_interval(inside: bool | None, said: str) -> None:
    found = {"values": {"loss %": 1.0}, "inside_95": inside, "ok": True, "reason": ""}
    row = {"title": "loss 1 %", "bar": "within 4 standard errors", "links": {"native": found}}
    assert said in "\n".join(sections({"fidelity": [row], "settings": {"rounds": 1}}))
