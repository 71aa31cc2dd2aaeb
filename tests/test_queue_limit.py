"""Test the effective limit of a link's queue."""

from __future__ import annotations

import csv
from pathlib import Path

from orchestrator.impairment.queue_limit import effective_limit_bytes

VECTORS = Path(__file__).parent / "vectors" / "queue_limits.csv"


def test_the_effective_limit_is_that_of_the_dataplane() -> None:
    """The tests of the engine read the same table: `dataplane/engine/src/link/tests/queues.rs`."""
    lines = [line for line in VECTORS.read_text().splitlines() if not line.startswith("#")]
    rows = [{name: int(value) for name, value in row.items() if value} for row in csv.DictReader(lines)]
    assert len(rows) >= 10
    for row in rows:
        expected = row.pop("effective", None)
        assert effective_limit_bytes(**row) == expected, row
