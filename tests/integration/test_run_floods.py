"""Test `nm run` with more output than can be processed: signals, time limit, result files."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from orchestrator.deploy.home import Home
from orchestrator.lab import Lab
from tests.integration.conftest import RING, Nm, shared_lab
from tests.integration.waiting import as_a_shell_says, until, write_waiting

LARGE = """
def waiter(ctx):
    for n in range(300):
        ctx.report(n=n, text="x" * 1_000_000)
    ctx.lookup("never")
"""

COLUMNS = """
def waiter(ctx):
    for n in range(3000 // len(ctx.nodes())):
        ctx.report(**{f"column_{ctx.node}_{n}": n})
    ctx.lookup("never")
"""

ENDLESS = """
def waiter(ctx):
    n = 0
    while True:
        ctx.report(n=n, text="x" * 1_000_000)
        n += 1
"""

SIGNAL_S = 5.0
"""A second is the promise, and three more are a role's to end; the rest is for a machine with other work."""


lab = shared_lab(RING, name="floods")


@pytest.fixture
def nm(home: Home, lab: Lab, tmp_path: Path) -> Nm:
    return Nm(home, tmp_path)


def events(out: Path) -> list[dict[str, Any]]:
    """The events of a run; each line parses."""
    [file] = out.rglob("events.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def reported(out: Path) -> int:
    """How many rows have come; the last line may be half written."""
    return sum(file.read_text().count('"kind": "report"') for file in out.rglob("events.jsonl"))


def check_files(out: Path) -> dict[str, Any]:
    """Read every result file and compare what they say; return the run's document."""
    csv.field_size_limit(10_000_000)
    [folder] = [file.parent for file in out.rglob("run.json")]
    document: dict[str, Any] = json.loads((folder / "run.json").read_text())
    rows = json.loads((folder / "rows.json").read_text())
    with (folder / "rows.csv").open(newline="") as file:
        listed = list(csv.DictReader(file))
    told = sum(event["kind"] == "report" for event in events(out))
    counts = (len(listed), len(rows), told)
    if document["reason"] == "interrupted":
        assert max(counts) == told, counts  # the tables end early, and the events have all rows
    else:
        assert len(set(counts)) == 1, counts
        assert all(set(row) <= set(listed[0]) for row in rows)
    return document


@pytest.mark.parametrize(("source", "enough"), [(LARGE, 20), (COLUMNS, 300)], ids=["large", "columns"])
def test_a_flooded_run_handles_a_signal_and_its_files_parse(
    nm: Nm, tmp_path: Path, source: str, enough: int
) -> None:
    out = tmp_path / "out"
    run = nm.start("run", "scenario", write_waiting(tmp_path / "waiting", source), "--results", out)
    until(lambda: reported(out) >= enough)
    began = time.monotonic()
    run.send_signal(signal.SIGTERM)
    _, err = run.communicate(timeout=60)
    took = time.monotonic() - began
    assert as_a_shell_says(run.returncode) == 130, err
    assert took < SIGNAL_S, took
    document = check_files(out)
    assert (document["verdict"], document["reason"]) == ("error", "interrupted")
    assert nm("run", "scenario", "pingall").code == 0


def test_a_flood_without_end_ends_with_the_time_of_the_run(nm: Nm, tmp_path: Path) -> None:
    out = tmp_path / "out"
    scenario = write_waiting(tmp_path / "waiting", ENDLESS, timeout="5 s")
    run = nm.start("run", "scenario", scenario, "--results", out)
    try:
        said, err = run.communicate(timeout=5 + 60)
    except subprocess.TimeoutExpired:
        run.kill()
        raise
    assert run.returncode == 1, err
    document = check_files(out)
    assert document["verdict"] == "error" and "did not end within 5 s" in document["reason"]
    last = {row["node"]: row["n"] for row in json.loads(next(out.rglob("rows.json")).read_text())}
    assert len(last) == 4 and sum(last.values()) + 4 == reported(out), "no row is missing in the middle"
    assert len(said) < 100_000, "a terminal is shown the beginning of what is long"
    assert nm("run", "scenario", "pingall").code == 0
