"""Kill one part of a lab at a time, and check that the lab recovers by itself.

    a link's delay is changed → (a run starts) → SIGKILL → poll `nm status` until the lab is ready again
        → the run ends: it continued, or failed with a reason where a process with roles was killed
        → compare links, groups and rows of finished runs with those before; ping between all nodes

No command repairs the lab. A kill has a fault when the lab is not ready in time or one of these checks fails;
the lab is then taken down and started again, and the series continues.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.chaos.commands import CommandResult, Nm, Started
from benchmarks.chaos.victims import DockerVictims, NativeVictims, Victims
from orchestrator.deploy import state as notes
from orchestrator.deploy.home import Home
from orchestrator.errors import NmError
from orchestrator.impairment import LinkSpec
from orchestrator.lab import AsyncLab, Lab
from orchestrator.supervisor.restarts import DEATHS, WINDOW_S

__all__ = ["LIMIT_S", "PHASES", "Kill", "Outcome", "Recovery", "draw"]

PHASES = ("idle", "run")

LIMIT_S = {"native": 30.0, "docker": 60.0}
"""Time limit of the recovery; generous, because the machine may be busy."""

COMMAND_LIMIT_S = 120.0
RUN_LIMIT_S = 60.0

ROLE_VICTIMS = ("host", "node", "agent")
"""Parts in which roles run; a run may fail with a reason when one of them is killed."""

WORDS = {
    "weights-sync": ("weights-sync", "-p", "size=40 MB", "-p", "rounds=4"),
    "pingall": ("pingall",),
}
USUAL_S = {"weights-sync": 3.0, "pingall": 1.5}
ROLES_S = {"weights-sync": 0.8, "pingall": 0.05}
"""Typical duration of a run, and of its roles."""


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill: number, phase (`idle` or `run`), victim, scenario, and moment as a share of the run."""

    number: int
    phase: str
    victim: str
    scenario: str
    moment: float

    def __str__(self) -> str:
        run = f"/{self.scenario}" if self.phase == "run" else ""
        return f"{self.number} {self.phase}{run} {self.victim} at {self.moment:.2f}"


@dataclass(slots=True)
class Outcome:
    """Result of a kill: seconds until the lab was ready, result of the run, failed checks."""

    kill: Kill
    hit: bool = False
    seconds: float | None = None
    run: str = ""
    faults: list[str] = field(default_factory=list)
    output: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as records store it."""
        return {
            "kill": str(self.kill),
            "phase": self.kill.phase,
            "victim": self.kill.victim,
            "hit": self.hit,
            "seconds": None if self.seconds is None else round(self.seconds, 2),
            "run": self.run,
            "faults": self.faults,
        }


def draw(kills: int, seed: int, victims: tuple[str, ...]) -> Iterator[Kill]:
    """Draw a series in which every victim is killed in both phases about equally often, in random order."""
    chance = random.Random(seed)
    pairs: list[tuple[str, str]] = []
    for number in range(1, kills + 1):
        if not pairs:
            pairs = [(phase, victim) for phase in PHASES for victim in victims]
            chance.shuffle(pairs)
        phase, victim = pairs.pop()
        yield Kill(number, phase, victim, chance.choice(sorted(WORDS)), chance.random())


class Recovery:
    """Carries out kills in one lab and checks its recovery.

    Args:
        home: NM_HOME of the lab; created for this series.
        topology: The lab's topology file.
        lab: The lab's name.
        backend: `native` or `docker`.
    """

    def __init__(self, home: Path, topology: Path, lab: str, backend: str) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._nm = Nm(home, home.parent)
        self._lab = lab
        self._topology = topology
        self._backend = backend
        self._directory = Home(home).lab(lab)
        kind = NativeVictims if backend == "native" else DockerVictims
        self.victims: Victims = kind(self._directory)
        self._is_up = False
        self._deaths: dict[str, list[float]] = {}

    def run(self, kill: Kill) -> Outcome:
        """Carry out one kill and all checks after it."""
        outcome = Outcome(kill)
        if not self._is_up:
            self._up(outcome)
        if not outcome.faults:
            self._kill_and_check(outcome)
        if outcome.faults:
            self._down(outcome)
        return outcome

    def end(self) -> list[str]:
        """Take the lab down and return the faults of that."""
        outcome = Outcome(Kill(0, "end", "none", "", 0.0))
        self._down(outcome)
        return outcome.faults

    def _kill_and_check(self, outcome: Outcome) -> None:
        kill = outcome.kill
        delay_us = 1000 * (1 + kill.number % 9)
        lab = self._handle()
        try:
            lab.set_link(1, 2, LinkSpec(delay_us=delay_us))
            before = _kept_state(lab)
            rows = self.victims.rows()
        except NmError as error:
            outcome.faults.append(f"before the kill: {error.message}")
            return
        name, victim = self.victims.find(kill.victim, kill.number)
        self._pace(name)
        started = self._start(kill) if kill.phase == "run" else None
        self._wait_for_moment(kill, started)
        began = time.monotonic()
        outcome.hit = self.victims.kill(victim)
        self._deaths.setdefault(name, []).append(began)
        if not outcome.hit:
            outcome.faults.append(f"{name} was not running")
        self._until_ready(outcome, lab, victim, began)
        if started is not None:
            self._end_of_run(outcome, started)
        if not outcome.faults:
            self._compare(outcome, lab, before, delay_us)
            if lost := rows - self.victims.rows():
                outcome.faults.append(f"lost: {len(lost)} rows of finished runs")

    def _pace(self, name: str) -> None:
        """Wait, so that this kill stays below the number of failures after which a part is not restarted."""
        recent = self._deaths.get(name, [])[-(DEATHS - 1) :]
        if len(recent) == DEATHS - 1 and self._backend == "native":
            time.sleep(max(0.0, recent[0] + WINDOW_S + 1.0 - time.monotonic()))

    def _start(self, kill: Kill) -> Started:
        words = ("run", "scenario", *WORDS[kill.scenario], "-n", self._lab, "-o", "json")
        return self._nm.start(*words, "--timeout", str(RUN_LIMIT_S), "--results", str(self._results(kill)))

    def _results(self, kill: Kill) -> Path:
        return self._nm.folder / "results" / f"{self._backend}-{kill.number}"

    def _wait_for_moment(self, kill: Kill, started: Started | None) -> None:
        """Wait for the moment of the kill: for half of the runs it counts from the start of their roles."""
        share = USUAL_S[kill.scenario]
        if started is not None and kill.number % 2:
            share = ROLES_S[kill.scenario]
            events = self._results(kill) / "events.jsonl"
            while not started.over and not (events.exists() and "role_started" in events.read_text()):
                time.sleep(0.005)
        deadline = time.monotonic() + kill.moment * share
        while time.monotonic() < deadline and not (started is not None and started.over):
            time.sleep(0.01)

    def _until_ready(self, outcome: Outcome, lab: Lab, victim: Any, began: float) -> None:
        """Poll until the part runs as a new process, the lab is ready and all links are up."""
        limit = LIMIT_S[self._backend]
        while True:
            # Checked before the status: a status answered by the old process must not count.
            restarted = self.victims.is_restarted(outcome.kill.victim, victim)
            status = lab.status()
            if restarted and status.state == "ready" and all(link.state == "up" for link in status.links):
                outcome.seconds = time.monotonic() - began
                return
            if time.monotonic() - began > limit:
                problems = "; ".join(status.problems)
                outcome.faults.append(f"not recovered within {limit:g} s: {status.state}, {problems}")
                return
            time.sleep(0.05)

    def _end_of_run(self, outcome: Outcome, started: Started) -> None:
        result = started.end(COMMAND_LIMIT_S)
        data = result.data if isinstance(result.data, dict) else {}
        verdict = data.get("verdict", result.name)
        reason = data.get("reason") or result.error
        if result.code == 0:
            outcome.run = "continued"
        elif outcome.kill.victim in ROLE_VICTIMS and reason:
            outcome.run = "failed with a reason"
        else:
            outcome.run = "failed without a reason"
            outcome.faults.append(f"the run did not continue: {verdict} {reason or ''}")

    def _compare(self, outcome: Outcome, lab: Lab, before: dict[str, Any], delay_us: int) -> None:
        try:
            after = _kept_state(lab)
            for node in lab.nodes:
                result = node.run(["sh", "-c", _PINGS], timeout=60)
                if not result.ok:
                    outcome.faults.append(
                        f"lost: node {node.id} does not reach all: {result.stderr[-200:]!r}"
                    )
        except NmError as error:
            outcome.faults.append(f"after the kill: {error.message}")
            return
        if after["links"] != before["links"]:
            outcome.faults.append(f"lost: links {before['links']} are now {after['links']}")
        if after["links"][0]["forward"].get("delay_us") != delay_us:
            outcome.faults.append(f"lost: the delay of link 1-2, {after['links'][0]}")
        if groups := before["groups"] - after["groups"]:
            outcome.faults.append(f"lost: groups {groups}")

    def _handle(self) -> Lab:
        """Return the lab without checking its supervisor, which a command would restart."""
        note = notes.read(self._directory)
        assert note is not None, "the lab is up"
        return Lab(AsyncLab(self._directory, note))

    def _up(self, outcome: Outcome) -> None:
        words = ("up", str(self._topology), "-n", self._lab, "--backend", self._backend, "-o", "json")
        result = self._run_nm(outcome, *words)
        self._is_up = result.code == 0
        self._deaths.clear()
        if result.code != 0:
            outcome.faults.append(f"`nm up` failed: {result.name}")
            return
        # Creates groups and rows of a finished run, which the first kill must not lose.
        ran = self._run_nm(outcome, "run", "scenario", "weights-sync", "-n", self._lab, "-o", "json")
        if ran.code != 0:
            outcome.faults.append(f"a run without a kill failed: {ran.name}")

    def _down(self, outcome: Outcome) -> None:
        result = self._run_nm(outcome, "down", "-n", self._lab, "-o", "json")
        self._is_up = False
        if result.code != 0:
            outcome.faults.append(f"`nm down` failed: {result.name}")
        outcome.faults += [f"left: {each}" for each in self.victims.left()]

    def _run_nm(self, outcome: Outcome, *words: str) -> CommandResult:
        result = self._nm(*words, limit_s=COMMAND_LIMIT_S)
        outcome.output.append(str(result))
        return result


def _kept_state(lab: Lab) -> dict[str, Any]:
    """Return the state that a recovery must keep: link settings and groups."""
    details = lab.status().details()
    kept = ("a", "b", "state", "forward", "backward")
    links = [{key: link[key] for key in kept} for link in details["links"]]
    # Members are left out: they leave a group when their program ends.
    groups = {(group["group_id"], group["address"], group["label"]) for group in details["groups"]}
    return {"links": links, "groups": groups}


_PINGS = "for n in 1 2 3 4; do ping -c 1 -W 5 -q node-$n >/dev/null || exit 1; done"
"""Pings between all pairs of nodes; the default ring has four."""
