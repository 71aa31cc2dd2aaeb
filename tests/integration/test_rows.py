"""Test that rows are stored exactly once, or refused with a reason.

`NM_ROWS=100000` makes the long series; the short one is for every day.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.procfs import ProcessId
from orchestrator.testing.plugin import Labs
from tests.integration.conftest import RING, Nm
from tests.integration.damage import kill
from tests.integration.waiting import run_in, until

ROWS = int(os.environ.get("NM_ROWS", "8000"))
THREADS = 8

EVENT_BYTES = 150
"""About how long a line of `events.jsonl` is that tells of a row."""

Part = Callable[[str, str], ProcessId]

REPORT = """
import threading

def teller(ctx):
    each = ctx.params.rows // (len(ctx.nodes()) * {threads})

    def tell(thread):
        for number in range(each):
            ctx.report(thread=thread, number=number)

    threads = [threading.Thread(target=tell, args=(n,), daemon=True) for n in range({threads})]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
""".replace("{threads}", str(THREADS))


def scenario(
    folder: Path, roles: str, *, timeout: str = "60 s", params: str = "", nodes: str = "all"
) -> Path:
    folder.mkdir()
    (folder / "scenario.yaml").write_text(
        f"name: {folder.name}\nsummary: a test\n{params}roles:\n  teller: {{nodes: all}}\n"
        f"timeout: {timeout}\n"
    )
    (folder / "roles.py").write_text(roles)
    return folder


@pytest.mark.timeout(300 + ROWS // 20)
def test_every_row_of_eight_threads_arrives_once_though_controller_and_postgres_are_killed(
    labs: Labs, nm: Nm, part: Part, tmp_path: Path
) -> None:
    labs.up(RING)
    out = tmp_path / "out"
    rows = f"params:\n  rows: {{type: int, default: {ROWS}}}\n"
    folder = scenario(tmp_path / "telling", REPORT, params=rows, timeout=f"{60 + ROWS // 100} s")
    began = time.monotonic()
    run = nm.start("run", "scenario", folder, "--results", out, "-o", "json")
    for victim, share in (("controller", 0.1), ("postgres", 0.5)):
        until(lambda share=share: reported(out) > share * ROWS, 120 + ROWS // 100)  # type: ignore[misc]
        kill(part("ring", victim))
        assert nm("up", RING, "--backend", "native").code == 0
    said, err = run.communicate(timeout=120 + ROWS // 20)
    took = time.monotonic() - began
    assert run.returncode == 0, (said, err)
    seen = Counter((row["node"], row["thread"], row["number"]) for row in rows_of(out))
    nodes = sorted({node for node, _, _ in seen})
    each = ROWS // (len(nodes) * THREADS)
    assert set(seen) == {(node, t, n) for node in nodes for t in range(THREADS) for n in range(each)}
    assert set(seen.values()) == {1}
    print(f"{len(seen)} rows in {took:.1f} s: {len(seen) / took:.0f} rows/s, with two restarts")


BAD = """
import math
from orchestrator.node.context import RoleError

def deep(n):
    value = []
    for _ in range(n):
        value = [value]
    return value

def teller(ctx):
    bad = [2**70, -2**63 - 1, "\\ud800", "a\\0", math.inf, b"x", {1: 2}, deep(500), "x" * 2**21, object()]
    for value in bad:
        for name in ("report", "publish"):
            try:
                ctx.report(a=value) if name == "report" else ctx.publish("key", value)
            except RoleError as error:
                assert error.id == "scenario.value", error
            else:
                raise AssertionError(f"{name} took {value!r:.40}")
    for key in ("k" * 6000, "", "a\\0", "\\ud800", 7):
        for call in (lambda: ctx.publish(key, 1), lambda: ctx.lookup(key, 1), lambda: ctx.barrier(key, 1)):
            try:
                call()
            except RoleError as error:
                assert error.id == "scenario.name", error
            else:
                raise AssertionError(key)
    ctx.log("a\\ud800b\\0c")
    ctx.report(ok=True, measured=math.nan)
"""


def test_what_cannot_be_kept_is_refused_in_the_role_and_the_lab_goes_on(
    labs: Labs, nm: Nm, tmp_path: Path
) -> None:
    lab = labs.up(RING)
    out = tmp_path / "out"
    said = nm("run", "scenario", scenario(tmp_path / "bad", BAD), "--results", out, "-o", "json")
    assert said.code == 0, (said.out, said.err)
    assert [(row["ok"], row["measured"]) for row in rows_of(out)] == [(True, None)] * len(lab.nodes)
    assert nm("link", "set", "1", "2", "--delay", "1ms").code == 0
    assert nm("status", "-o", "json").json["state"] == "ready"


FAILING = """
def teller(ctx):
    raise ValueError("\\ud800\\0" + "x" * 1_100_000)
"""


def test_roles_that_fail_with_long_texts_of_any_kind_end_the_run_at_once(
    labs: Labs, nm: Nm, tmp_path: Path
) -> None:
    labs.up(RING)
    began = time.monotonic()
    said = nm("run", "scenario", scenario(tmp_path / "failing", FAILING), "-o", "json")
    assert said.code == 1, said.err
    document = json.loads(said.out)
    assert "ValueError" in document["reason"] and "stop in time" not in document["reason"]
    assert all("ValueError" in failure["traceback"] for failure in document["failures"])
    assert time.monotonic() - began < 15
    assert nm("run", "scenario", "pingall").code == 0


FLOOD = """
def teller(ctx):
    while True:
        ctx.report(text="x" * 1_000_000)
"""


def test_a_flood_of_large_rows_does_not_hold_up_the_end(labs: Labs, nm: Nm, tmp_path: Path) -> None:
    """The controller's part: the run has ended soon after its time, and says how much was not stored."""
    lab = labs.up(RING)
    out = tmp_path / "out"
    folder = scenario(tmp_path / "flood", FLOOD, timeout="5 s")
    run = nm.start("run", "scenario", folder, "--results", out, "-o", "json")
    try:
        until(lambda: bool(lab.status().runs), 30)
        began = time.monotonic()
        until(lambda: lab.status().runs[0].state == "failed", 30)
        assert time.monotonic() - began < 5 + 4
        assert "did not end within 5 s" in lab.status().runs[0].reason
    finally:
        run.kill()
        run.wait()
    assert nm("run", "scenario", "pingall").code == 0


def rows_of(out: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((run_in(out) / "rows.json").read_text())
    return found


def reported(out: Path) -> int:
    """About how many rows have come so far, by the size of the file of events."""
    events = run_in(out) / "events.jsonl"
    return events.stat().st_size // EVENT_BYTES if events.is_file() else 0
