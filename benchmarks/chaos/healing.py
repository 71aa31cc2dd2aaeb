"""Kill one part of a lab after the other, and check that it is restarted with its state.

    a link is set anew → (a run starts) → the kill → `nm status` until ready, and the part is another process
        → the run ends: it goes on, or fails by name where the process of a role died
        → links, groups, finished runs and their rows are as before; every node reaches every other

No command repairs anything. A kill is lost when the lab is not ready in time, or when anything of this does
not hold; the lab is then taken down and made anew, and the series goes on.
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

__all__ = ["LIMIT_S", "PHASES", "Healing", "Outcome", "Strike", "draw"]

PHASES = ("idle", "run")

LIMIT_S = {"native": 30.0, "docker": 60.0}
"""How long a lab may take to be ready by itself; more than seconds only because the machine may be busy."""

COMMAND_LIMIT_S = 120.0
RUN_LIMIT_S = 60.0

ROLE_VICTIMS = ("host", "node", "agent")
"""Whoever has roles in it; the run of such a role fails by name."""

WORDS = {
    "weights-sync": ("weights-sync", "-p", "size=40 MB", "-p", "rounds=4"),
    "pingall": ("pingall",),
}
USUAL_S = {"weights-sync": 3.0, "pingall": 1.5}
ROLES_S = {"weights-sync": 0.8, "pingall": 0.05}
"""About how long a run takes, and how long its roles are at work."""


@dataclass(frozen=True, slots=True)
class Strike:
    """One kill: its number, whether a run is under way, who is killed, and when as a share of the run."""

    number: int
    phase: str
    victim: str
    scenario: str
    moment: float

    def __str__(self) -> str:
        under_way = f"/{self.scenario}" if self.phase == "run" else ""
        return f"{self.number} {self.phase}{under_way} {self.victim} at {self.moment:.2f}"


@dataclass(slots=True)
class Outcome:
    """How a kill ended: when the lab was ready, what became of the run, what does not hold."""

    strike: Strike
    hit: bool = False
    seconds: float | None = None
    run: str = ""
    faults: list[str] = field(default_factory=list)
    talk: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as it is kept."""
        return {
            "kill": str(self.strike),
            "phase": self.strike.phase,
            "victim": self.strike.victim,
            "hit": self.hit,
            "seconds": None if self.seconds is None else round(self.seconds, 2),
            "run": self.run,
            "faults": self.faults,
        }


def draw(kills: int, seed: int, victims: tuple[str, ...]) -> Iterator[Strike]:
    """Draw a series in which every victim meets both phases about equally often, in random order."""
    chance = random.Random(seed)
    pairs: list[tuple[str, str]] = []
    for number in range(1, kills + 1):
        if not pairs:
            pairs = [(phase, victim) for phase in PHASES for victim in victims]
            chance.shuffle(pairs)
        phase, victim = pairs.pop()
        yield Strike(number, phase, victim, chance.choice(sorted(WORDS)), chance.random())


class Healing:
    """Runs kills against one lab.

    Args:
        home: The home of the lab; made for this series.
        topology: The lab's file.
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

    def run(self, strike: Strike) -> Outcome:
        """Carry out one kill and everything that follows from it."""
        outcome = Outcome(strike)
        if not self._is_up:
            self._up(outcome)
        if not outcome.faults:
            self._strike(outcome)
        if outcome.faults:
            self._down(outcome)
        return outcome

    def end(self) -> list[str]:
        """Take the lab down and return what went wrong with that."""
        outcome = Outcome(Strike(0, "end", "nobody", "", 0.0))
        self._down(outcome)
        return outcome.faults

    def _strike(self, outcome: Outcome) -> None:
        strike = outcome.strike
        delay_us = 1000 * (1 + strike.number % 9)
        lab = self._handle()
        try:
            lab.set_link(1, 2, LinkSpec(delay_us=delay_us))
            before = _known(lab)
            rows = self.victims.rows()
        except NmError as error:
            outcome.faults.append(f"before the kill: {error.message}")
            return
        name, victim = self.victims.find(strike.victim, strike.number)
        self._pace(name)
        started = self._start(strike) if strike.phase == "run" else None
        self._wait_for_moment(strike, started)
        began = time.monotonic()
        outcome.hit = self.victims.kill(victim)
        self._deaths.setdefault(name, []).append(began)
        if not outcome.hit:
            outcome.faults.append(f"{name} was not there to be killed")
        self._until_ready(outcome, lab, victim, began)
        if started is not None:
            self._end_of_run(outcome, started)
        if not outcome.faults:
            self._compare(outcome, lab, before, delay_us)
            if lost := rows - self.victims.rows():
                outcome.faults.append(f"lost: {len(lost)} rows of finished runs")

    def _pace(self, name: str) -> None:
        """Wait until this kill is not the one after which a part is left dead: that is another promise."""
        recent = self._deaths.get(name, [])[-(DEATHS - 1) :]
        if len(recent) == DEATHS - 1 and self._backend == "native":
            time.sleep(max(0.0, recent[0] + WINDOW_S + 1.0 - time.monotonic()))

    def _start(self, strike: Strike) -> Started:
        words = ("run", "scenario", *WORDS[strike.scenario], "-n", self._lab, "-o", "json")
        return self._nm.start(*words, "--timeout", str(RUN_LIMIT_S), "--results", str(self._results(strike)))

    def _results(self, strike: Strike) -> Path:
        return self._nm.folder / "results" / f"{self._backend}-{strike.number}"

    def _wait_for_moment(self, strike: Strike, started: Started | None) -> None:
        """Half of the runs are struck when their roles are at it, however long they took to come so far."""
        share = USUAL_S[strike.scenario]
        if started is not None and strike.number % 2:
            share = ROLES_S[strike.scenario]
            events = self._results(strike) / "events.jsonl"
            while not started.over and not (events.exists() and "role_started" in events.read_text()):
                time.sleep(0.005)
        deadline = time.monotonic() + strike.moment * share
        while time.monotonic() < deadline and not (started is not None and started.over):
            time.sleep(0.01)

    def _until_ready(self, outcome: Outcome, lab: Lab, victim: Any, began: float) -> None:
        """Ask until the part is another process, the lab is ready and its links are up."""
        limit = LIMIT_S[self._backend]
        while True:
            anew = self.victims.is_anew(
                outcome.strike.victim, victim
            )  # looked at before the controller is asked
            status = lab.status()
            if anew and status.state == "ready" and all(link.state == "up" for link in status.links):
                outcome.seconds = time.monotonic() - began
                return
            if time.monotonic() - began > limit:
                problems = "; ".join(status.problems)
                outcome.faults.append(f"not ready by itself within {limit:g} s: {status.state}, {problems}")
                return
            time.sleep(0.05)

    def _end_of_run(self, outcome: Outcome, started: Started) -> None:
        said = started.end(COMMAND_LIMIT_S)
        data = said.data if isinstance(said.data, dict) else {}
        verdict = data.get("verdict", said.name)
        reason = data.get("reason") or said.error
        if said.code == 0:
            outcome.run = "went on"
        elif outcome.strike.victim in ROLE_VICTIMS and reason:
            outcome.run = "failed by name"
        else:
            outcome.run = "lost"
            outcome.faults.append(f"the run did not go on: {verdict} {reason or ''}")

    def _compare(self, outcome: Outcome, lab: Lab, before: dict[str, Any], delay_us: int) -> None:
        try:
            after = _known(lab)
            for node in lab.nodes:
                said = node.run(["sh", "-c", _PINGS], timeout=60)
                if not said.ok:
                    outcome.faults.append(f"lost: node {node.id} does not reach all: {said.stderr[-200:]!r}")
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
        """The lab, without what a command does when it finds the supervisor dead."""
        note = notes.read(self._directory)
        assert note is not None, "the lab is up"
        return Lab(AsyncLab(self._directory, note))

    def _up(self, outcome: Outcome) -> None:
        words = ("up", str(self._topology), "-n", self._lab, "--backend", self._backend, "-o", "json")
        said = self._say(outcome, *words)
        self._is_up = said.code == 0
        self._deaths.clear()
        if said.code != 0:
            outcome.faults.append(f"`nm up` failed: {said.name}")
            return
        # So that there are groups and results to lose from the first kill on.
        ran = self._say(outcome, "run", "scenario", "weights-sync", "-n", self._lab, "-o", "json")
        if ran.code != 0:
            outcome.faults.append(f"a run with nobody killed failed: {ran.name}")

    def _down(self, outcome: Outcome) -> None:
        said = self._say(outcome, "down", "-n", self._lab, "-o", "json")
        self._is_up = False
        if said.code != 0:
            outcome.faults.append(f"`nm down` failed: {said.name}")
        outcome.faults += [f"left: {each}" for each in self.victims.left()]

    def _say(self, outcome: Outcome, *words: str) -> CommandResult:
        said = self._nm(*words, limit_s=COMMAND_LIMIT_S)
        outcome.talk.append(str(said))
        return said


def _known(lab: Lab) -> dict[str, Any]:
    """What the lab knows: what links do, and the groups."""
    details = lab.status().details()
    kept = ("a", "b", "state", "forward", "backward")
    links = [{key: link[key] for key in kept} for link in details["links"]]
    # Members leave when their program ends, which is nothing that a kill loses.
    groups = {(group["group_id"], group["address"], group["label"]) for group in details["groups"]}
    return {"links": links, "groups": groups}


_PINGS = "for n in 1 2 3 4; do ping -c 1 -W 5 -q node-$n >/dev/null || exit 1; done"
"""Every node asks every node; the ring that is shipped has four."""
