"""Test the steps of the schema: each number is there once."""

from __future__ import annotations

from orchestrator.store.migrate import migrations


def test_steps_are_numbered_from_1_on_and_no_two_have_the_same_number() -> None:
    found = [(step.number, step.name) for step in migrations()]
    assert [number for number, _ in found] == list(range(1, len(found) + 1)), found
