"""Test timelines of runs with real packets: links change at their times, and are as declared afterwards."""

from __future__ import annotations

import json
import signal
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.impairment import PLAIN, LinkSpec
from orchestrator.lab import Lab
from orchestrator.procfs import ProcessId, send_signal
from orchestrator.testing.plugin import Labs
from tests.integration.conftest import Nm
from tests.integration.services import need
from tests.integration.waiting import all_wait, as_a_shell_says, run_in, until, write_waiting

DECLARED = LinkSpec(delay_us=5_000)
RING = "name: ring\ntopology: {type: ring, n_nodes: 4}\ndefaults: {link: {delay: 5 ms}}\n"
ATTEMPTS = 3
"""Times are measured on a machine that may have other work; what is wrong is wrong each time."""

PING = """
import re, subprocess, time
def waiter(ctx):
    ctx.barrier("here")
    start = time.time()
    if ctx.node == 1:
        command = ["ping", "-n", "-D", "-i", "0.02", "-w", "4", ctx.address(2)]
        said = subprocess.run(command, capture_output=True, text=True).stdout
        for at, rtt in re.findall(r"\\[([0-9.]+)\\].*time=([0-9.]+) ms", said):
            ctx.report(t=float(at) - start, rtt_ms=float(rtt))
    ctx.barrier("done")
"""


def test_round_trips_follow_the_timeline_and_links_are_as_declared_afterwards(
    labs: Labs, tmp_path: Path
) -> None:
    need("ping")
    lab = labs.up(RING)
    folder = scenario(
        tmp_path,
        "{at: 1 s, set: [1, 2], delay: 40 ms, by: longer}",
        "{from: 2 s, to: 3 s, ramp: [2, 1], delay: [40 ms, 80 ms], steps: 20}",
        "{at: 3.5 s, reset: all}",
        roles=PING,
    )

    def followed() -> bool:
        outcome = lab.run_scenario(folder, results=tmp_path / "out")
        assert outcome.verdict == "pass", outcome.reason
        rtts = [(row["t"] - row["rtt_ms"] / 1e3, row["rtt_ms"]) for row in outcome.rows]

        def between(since: float, until: float) -> list[float]:
            return [rtt for sent, rtt in rtts if since <= sent < until]

        def like(times: list[float], low: float, high: float) -> bool:
            return len(times) >= 3 and low <= min(times) and statistics.median(times) <= high

        # A round trip that is under way while a delay changes has one of each.
        return (
            like(between(0.1, 0.9), 10, 15)
            and like(between(1.1, 1.8), 80, 85)
            and like(between(2.4, 2.6), 105, 135)
            and like(between(3.1, 3.3), 160, 165)
            and max(each["late_ms"] for each in happened(Path(outcome.results))) < 50
        )

    assert any(followed() for _ in range(ATTEMPTS))
    assert as_declared(lab)
    events = happened(max((tmp_path / "out").iterdir()))
    assert len(events) == 1 + 21 + 1
    assert all(each["ok"] and each["applied_s"] >= each["sent_s"] >= each["at_s"] for each in events)
    causes = [event.detail["cause"] for event in lab.events() if event.name == "link.changed"]
    assert "timeline of waiting: longer" in causes


def test_an_interrupt_in_the_middle_returns_links_to_what_is_declared(
    labs: Labs, nm: Nm, tmp_path: Path
) -> None:
    lab = labs.up(RING)
    out = tmp_path / "out"
    folder = scenario(
        tmp_path,
        "{at: 100 ms, set: [1, 2], loss: 5 %}",
        "{at: 100 ms, down: [2, 3]}",
        '{at: 200 ms, partition: "1,2|3,4"}',
        "{at: 50 s, set: [3, 4], delay: 1 s}",
    )
    run = nm.start("run", "scenario", folder, "--results", out)
    until(lambda: all_wait(out) and len(happened(run_in(out))) == 3)
    assert not as_declared(lab)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=30)
    assert as_a_shell_says(run.returncode) == 130, err
    assert as_declared(lab)
    (reset,) = events_of(run_in(out), "timeline_reset")
    assert reset == {"links": [[1, 2], [2, 3]], "healed": True, "errors": [], "left": 1}


def test_a_run_goes_on_without_its_command_line_and_across_a_restart_of_the_controller(
    labs: Labs, nm: Nm, part: Callable[[str, str], ProcessId], tmp_path: Path
) -> None:
    lab = labs.up(RING)
    out = tmp_path / "out"
    folder = scenario(
        tmp_path,
        "{at: 100 ms, set: [1, 2], delay: 9 ms}",
        "{at: 4 s, set: [3, 4], delay: 8 ms}",
        timeout="9 s",
    )
    run = nm.start("run", "scenario", folder, "--results", out)
    until(lambda: len(happened(run_in(out))) == 1)
    run.kill()
    run.communicate(timeout=30)
    assert send_signal(part("ring", "controller"), signal.SIGKILL)
    until(lambda: delays(lab) == {(1, 2): 9_000, (3, 4): 8_000}, 30)
    until(lambda: as_declared(lab), 30)


def test_a_change_that_a_link_cannot_make_ends_the_run_with_its_reason(labs: Labs, tmp_path: Path) -> None:
    lab = labs.up(RING)
    lab.set_link(1, 2, LinkSpec(delay_us=1_000))  # which the checks before the run do not know
    folder = scenario(tmp_path, "{at: 100 ms, set: [1, 2], jitter: 4 ms}")
    outcome = lab.run_scenario(folder, results=tmp_path / "out")
    assert outcome.verdict == "error"
    assert "the timeline's `set` of 1–2 at 0.1 s failed: the link 1–2 cannot do that" in outcome.reason


def test_a_dry_run_prints_the_timeline_and_starts_nothing(nm: Nm, tmp_path: Path) -> None:
    topology = tmp_path / "ring.yaml"
    topology.write_text(RING)
    folder = scenario(tmp_path, "{from: 1 s, to: 2 s, ramp: [1, 2], loss: [0, 1 %], steps: 1}")
    run = ("run", "scenario", folder, "--topology", topology, "--dry-run")
    shown = nm(*run)
    assert (shown.code, shown.out.splitlines()) == (
        0,
        [
            "time  what  where  values    cause",
            "1 s   set   1–2    loss 0 %  timeline of waiting",
            "2 s   set   1–2    loss 1 %  timeline of waiting",
        ],
    )
    document = json.loads(nm(*run, "-o", "json").out)
    assert document["timeline"][1] == {
        "at_s": 2.0,
        "do": "set",
        "where": "1–2",
        "link": [1, 2],
        "direction": "both",
        "values": {"loss": 0.01},
        "values_back": None,
        "groups": None,
        "node": None,
        "fault": None,
        "cause": "timeline of waiting",
    }
    assert json.loads(nm("labs", "-o", "json").out) == []
    late = nm(*run, "--timeout", "1.5")
    assert late.code == 2 and "by its time limit of 1.5 s" in late.err


def scenario(tmp_path: Path, *entries: str, roles: str = "", timeout: str = "60 s") -> Path:
    folder = tmp_path / "waiting"
    write_waiting(folder, timeout=timeout, **({"roles": roles} if roles else {}))
    with (folder / "scenario.yaml").open("a") as file:
        file.write("timeline:\n" if entries else "")
        file.write("".join(f"  - {entry}\n" for entry in entries))
        file.write("checks: [{name: rows, rows: waiter, count: '> 0'}]\n")
    return folder


def events_of(run: Path, kind: str) -> list[Any]:
    file = run / "events.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.is_file() else []
    events = [json.loads(line) for line in lines if line.endswith("\n")]
    return [event["data"] for event in events if event["kind"] == kind]


def happened(run: Path) -> list[Any]:
    return events_of(run, "timeline")


def as_declared(lab: Lab) -> bool:
    links = lab.status().links
    return all((x.forward, x.backward, x.down, x.state) == (DECLARED, DECLARED, "", "up") for x in links)


def delays(lab: Lab) -> dict[tuple[int, int], int | None]:
    """The delays of links that are not as declared."""
    found = {(x.a, x.b): (x.forward or PLAIN).delay_us for x in lab.status().links}
    return {ends: delay for ends, delay in found.items() if delay != DECLARED.delay_us}


CHANGING = """
def waiter(ctx):
    ctx.barrier("here")
    if ctx.node == 1:
        try:
            ctx.link(1, 2).set(delay="9 ms")
            ctx.link("node-3", 4).set(delay="8 ms", direction="forward")
            ctx.partition([[1, 2], [3, 4]])
            ctx.heal()
        except Exception as error:
            ctx.report(id=error.id)
        else:
            ctx.report(id="")
        try:
            ctx.link(1, 3).down()
        except Exception as error:
            ctx.report(id=error.id)
    ctx.barrier("done")
"""


def test_roles_change_links_if_the_scenario_allows_it_and_until_the_run_ends(
    labs: Labs, tmp_path: Path
) -> None:
    lab = labs.up(RING)
    folder = scenario(tmp_path, roles=CHANGING)
    file = folder / "scenario.yaml"
    refused = lab.run_scenario(folder, results=tmp_path / "refused")
    assert [row["id"] for row in refused.rows] == ["run.faults", "run.faults"]
    assert happened(Path(refused.results)) == []
    file.write_text(file.read_text() + "faults: true\n")
    outcome = lab.run_scenario(folder, results=tmp_path / "out")
    assert outcome.verdict == "pass", outcome.reason
    assert [row["id"] for row in outcome.rows] == ["", "link.unknown"]
    changes = happened(Path(outcome.results))
    assert [(each["do"], each["where"], each["ok"]) for each in changes] == [
        ("set", "1–2", True),
        ("set", "3 → 4", True),
        ("partition", "1,2|3,4", True),
        ("heal", "all links", True),
        ("down", "1–3", False),
    ]
    assert as_declared(lab)
    causes = {event.detail["cause"] for event in lab.events() if event.name == "link.changed"}
    assert any(cause.startswith("role waiter in node 1 of waiting-") for cause in causes)
