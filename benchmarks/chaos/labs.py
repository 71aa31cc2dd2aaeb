"""Run one kill after the other against one lab.

    the lab is as the phase needs it → the phase's command starts → the kill → every command ends, with a name
        → `nm status`: ready by itself, or it names what is gone
        → `nm up` restarts just that part, or `nm down` leaves nothing

A fault is whatever does not hold of this; the lab is then taken down and the series goes on.
"""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.chaos.commands import CommandResult, Nm, Started
from benchmarks.chaos.draw import Kill
from benchmarks.chaos.leftovers import Memory
from benchmarks.chaos.report import CLEAN, DOWN, ITSELF, REPAIRED
from orchestrator import procfs
from orchestrator.deploy import processes
from orchestrator.deploy import state as notes
from orchestrator.deploy.home import Home
from orchestrator.procfs import ProcessId

__all__ = ["Chaos", "Outcome"]

PARTS = ("host", "controller", "postgres")

RUN_LIMIT_S = 20.0
"""The time limit of a run; one that is told to stop then has some seconds more."""

COMMAND_LIMIT_S = 90.0
"""Past this a command counts as hung; the limits that commands keep themselves are well below."""

ROLES_S = {"weights-sync": 0.8, "pingall": 0.05}
"""About how long the roles of a run are at work."""

RECOVERY_S = 12.0
"""How long a lab may take to be ready by itself, or to say what is gone."""


@dataclass(slots=True)
class Outcome:
    """How a kill ended.

    Attributes:
        kill: The kill.
        hit: Whether the victim was there to be killed.
        way: One of `report.WAYS`.
        names: How the commands ended and which states the lab was in, in order.
        faults: What did not hold.
        talk: What the commands said, for whoever looks into a fault.
    """

    kill: Kill
    hit: bool = False
    way: str = ""
    names: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    talk: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as it is kept."""
        return {
            "kill": str(self.kill),
            "phase": self.kill.phase,
            "victim": self.kill.victim,
            "hit": self.hit,
            "way": self.way,
            "names": self.names,
            "faults": self.faults,
        }


class Chaos:
    """Runs kills against one lab.

    Args:
        home: The home of the lab; made for this series.
        topology: The lab's file.
        lab: The lab's name.
    """

    def __init__(self, home: Path, topology: Path, lab: str) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._home = Home(home)
        self._lab = lab
        self._topology = topology
        self._nm = Nm(home, home.parent)
        self._directory = self._home.lab(lab)
        self._memory = Memory(self._directory)
        self._is_up = False
        # What each command usually takes, learnt from those that nothing was done to.
        self._usual = {"up": 2.0, "down": 0.8, "weights-sync": 1.5, "pingall": 0.7}

    def run(self, kill: Kill) -> Outcome:
        """Carry out one kill and everything that follows from it."""
        outcome = Outcome(kill)
        try:
            self._prepare(outcome)
            if not outcome.faults:
                outcome.names.clear()
                self._strike(outcome)
        except AssertionError as error:
            outcome.faults.append(str(error))
        if outcome.faults:
            self._down(outcome)
        return outcome

    def end(self) -> list[str]:
        """Take the lab down and return what is left."""
        outcome = Outcome(Kill(0, "end", "nobody", "down", 0.0, repair=False))
        self._down(outcome)
        return outcome.faults

    # Before the kill.

    def _prepare(self, outcome: Outcome) -> None:
        wants_up = outcome.kill.phase != "up"
        if self._is_up and not wants_up:
            self._down(outcome)
        elif wants_up and not self._is_up:
            self._up(outcome)

    # The kill.

    def _strike(self, outcome: Outcome) -> None:
        kill = outcome.kill
        before = self._parts()
        started = None if self._alone(kill) else self._start(kill)
        began = time.monotonic()
        if started is not None and kill.phase == "run" and kill.number % 2:
            self._wait_for_roles(kill, started)
            time.sleep(kill.moment * ROLES_S[kill.command])
        else:
            time.sleep(kill.moment * self._usual.get(kill.command, 0.4))  # the moment is what varies
        if started is not None and started.over:
            outcome.names.append(f"{kill.command} was over")
        outcome.hit = self._kill(kill, started)
        self._memory.look()
        if kill.phase == "up":
            self._after_up(outcome, started)
        elif kill.phase == "down":
            self._after_down(outcome, started)
        else:
            self._after_idle_or_run(outcome, started, before)
        if not outcome.hit and started is not None:
            self._usual[kill.command] = min(self._usual.get(kill.command, 9.0), time.monotonic() - began)

    def _wait_for_roles(self, kill: Kill, started: Started) -> None:
        """Half of the runs are struck when their roles are at it, however long they took to come so far."""
        while not started.over:
            # The run has a folder of its own in there.
            for events in self._results(kill).glob("*/events.jsonl"):
                if "role_started" in events.read_text(encoding="utf-8"):
                    return
            time.sleep(0.002)

    def _results(self, kill: Kill) -> Path:
        return self._home.path.parent / "results" / str(kill.number)

    def _alone(self, kill: Kill) -> bool:
        """Whether nothing is under way when the victim dies."""
        return kill.phase == "idle" and kill.victim != "nm"

    def _start(self, kill: Kill) -> Started:
        lab = ("-n", self._lab)
        json = ("-o", "json")
        scenario = ("--timeout", str(RUN_LIMIT_S), "--results", str(self._results(kill)))
        words: dict[str, tuple[str, ...]] = {
            "up": self._up_words(),
            "down": ("down", *lab, *json),
            "status": ("status", *lab, *json),
            "inspect": ("inspect", *lab, *json),
            "exec": ("exec", *lab, "all", *json, "--", "sleep", "0.5"),
            "link": ("link", "set", "1", "2", "--delay", "1ms", *lab, *json),
            "weights-sync": (
                "run",
                "scenario",
                "weights-sync",
                *lab,
                *scenario,
                *json,
                "-p",
                "size=40 MB",
                "-p",
                "rounds=4",
            ),
            "pingall": ("run", "scenario", "pingall", *lab, *scenario, *json),
        }
        return self._nm.start(*words[kill.command])

    def _kill(self, kill: Kill, started: Started | None) -> bool:
        """Kill the victim; wait for it to appear as long as the command goes on."""
        if kill.victim == "nm":
            if started is None or started.over:
                return False
            started.kill()
            return True
        while True:
            victim = self._find(kill.victim)
            if victim is not None and procfs.send_signal(victim, signal.SIGKILL):
                return not procfs.wait_gone([victim], 10.0)
            if started is None or started.over:
                return False
            time.sleep(0.005)

    def _find(self, part: str) -> ProcessId | None:
        """The part's first process: of the database, the server itself or whoever makes its cluster."""
        found = processes.labelled(self._home.path, self._lab)
        self._memory.pids |= {each.identity.pid for each in found}
        mine = [each.identity for each in found if each.part == part]
        return min(mine, key=lambda each: each.started, default=None)

    # After the kill.

    def _after_up(self, outcome: Outcome, started: Started | None) -> None:
        assert started is not None, "a start was under way"
        said = self._note(outcome, started.end(COMMAND_LIMIT_S))
        if said.code == 0:
            self._is_up = True
            self._settle(outcome, self._parts())
        elif said.code == -9:
            state = self._status(outcome)
            note = notes.read(self._directory)
            if state is not None and state["state"] == "ready" and (note is None or note.phase != "up"):
                outcome.faults.append("a lab whose start was cut off says that it is ready")
            outcome.way = REPAIRED if outcome.kill.repair else DOWN
            self._go_on(outcome, None)
        else:
            outcome.way = CLEAN
            self._require_nothing_left(outcome)

    def _after_down(self, outcome: Outcome, started: Started | None) -> None:
        assert started is not None, "a stop was under way"
        said = self._note(outcome, started.end(COMMAND_LIMIT_S))
        self._is_up = False
        if said.code == -9:
            state = self._status(outcome)
            repairs = state is not None and outcome.kill.repair
            outcome.way = REPAIRED if repairs else DOWN
            if repairs:
                self._up(outcome)
            self._down(outcome)
        elif said.code == 0:
            outcome.way = CLEAN
            self._require_nothing_left(outcome)
        else:
            outcome.faults.append(f"`nm down` failed: {said.name}")

    def _after_idle_or_run(
        self, outcome: Outcome, started: Started | None, before: dict[str, ProcessId]
    ) -> None:
        kill = outcome.kill
        if started is not None and kill.victim == "nm":
            self._note(outcome, started.end(COMMAND_LIMIT_S))
            started = None
        self._settle(outcome, before, running=started)
        if started is not None:
            said = self._note(outcome, started.end(COMMAND_LIMIT_S))
            data = said.data if isinstance(said.data, dict) else {}
            outcome.talk.append(f"reason: {data.get('reason')}")

    def _settle(self, outcome: Outcome, before: dict[str, ProcessId], running: Started | None = None) -> None:
        """The lab is ready by itself, or names what is gone; then the user goes on, beside a run or not."""
        gone = {part for part, process in before.items() if not process.alive()}
        state = self._status(outcome, expected=gone)
        if state is None:
            return
        outcome.way = ITSELF if state["state"] == "ready" else REPAIRED if outcome.kill.repair else DOWN
        if gone and state["state"] == "ready":
            outcome.faults.append(f"the lab says that it is ready without {', '.join(sorted(gone))}")
        for part in gone:
            if not any(part in problem for problem in state["problems"]):
                outcome.faults.append(f"status does not name {part}: {state['problems']}")
        self._go_on(outcome, before)

    def _go_on(self, outcome: Outcome, before: dict[str, ProcessId] | None) -> None:
        if not outcome.kill.repair:
            self._down(outcome)
            return
        lived = {part: process for part, process in (before or {}).items() if process.alive()}
        self._up(outcome)
        anew = [part for part, process in lived.items() if self._parts().get(part) != process]
        if anew:
            outcome.faults.append(f"`nm up` started anew what was alive: {', '.join(anew)}")

    # Commands that have to succeed, and what is true after them.

    def _up_words(self) -> tuple[str, ...]:
        return (
            "up",
            str(self._topology),
            "-n",
            self._lab,
            "--backend",
            "native",
            "-o",
            "json",
            "--timeout",
            "40",
            "--no-restart",
        )

    def _up(self, outcome: Outcome) -> None:
        began = time.monotonic()
        said = self._note(outcome, self._nm(*self._up_words(), limit_s=COMMAND_LIMIT_S))
        if not self._is_up:
            self._usual["up"] = time.monotonic() - began
        self._is_up = said.code == 0
        self._memory.look()
        if said.code != 0:
            outcome.faults.append(f"`nm up` failed: {said.name}")
        elif said.data["state"] != "ready":
            outcome.faults.append(f"after `nm up` the lab is {said.data['state']}: {said.data['problems']}")
        else:
            self._try_out(outcome)

    def _try_out(self, outcome: Outcome) -> None:
        """A lab that says that it is ready carries packets between any two nodes, at once."""
        words = ("exec", "-n", self._lab, "all", "-o", "json", "--", "ping", "-c", "1", "-W", "5", "node-3")
        said = self._nm(*words, limit_s=COMMAND_LIMIT_S)
        if said.code != 0:
            outcome.talk.append(str(said))
            outcome.faults.append(f"the lab is ready, and nodes do not reach each other: {said.name}")

    def _down(self, outcome: Outcome) -> None:
        self._memory.look()
        began = time.monotonic()
        said = self._note(outcome, self._nm("down", "-n", self._lab, "-o", "json", limit_s=COMMAND_LIMIT_S))
        if self._is_up:
            self._usual["down"] = time.monotonic() - began
        self._is_up = False
        if said.code != 0:
            outcome.faults.append(f"`nm down` failed: {said.name}")
        self._require_nothing_left(outcome)

    def _require_nothing_left(self, outcome: Outcome) -> None:
        self._is_up = False
        left = self._memory.left()
        if left:
            outcome.faults.append(f"left: {'; '.join(left)}")
        self._memory = Memory(self._directory)

    def _status(self, outcome: Outcome, expected: set[str] | None = None) -> dict[str, Any] | None:
        """Ask until the state is one that lasts: ready, failed, or degraded because of what is gone."""
        deadline = time.monotonic() + RECOVERY_S
        while True:
            said = self._nm("status", "-n", self._lab, "-o", "json", limit_s=30.0)
            state = said.data if said.code == 0 else None
            lasts = state is None or state["state"] in ("ready", "failed") or bool(expected)
            if lasts or time.monotonic() > deadline:
                break
        self._note(outcome, said)
        if state is None:
            outcome.names[-1] = f"status {said.name}"
            return None
        outcome.names[-1] = f"status {state['state']}"
        if state["state"] not in ("ready", "degraded", "failed"):
            outcome.faults.append(f"the lab stays {state['state']}: {state['problems']}")
        elif state["state"] != "ready" and not state["problems"]:
            outcome.faults.append(f"the lab is {state['state']} and does not say why")
        elif state["state"] == "degraded" and not any("does not run" in each for each in state["problems"]):
            outcome.faults.append(f"nothing is gone, and the lab stays degraded: {state['problems']}")
        return dict(state)

    def _note(self, outcome: Outcome, said: CommandResult) -> CommandResult:
        outcome.names.append(f"{said.words[0]} {said.name}")
        outcome.talk.append(str(said))
        if said.name.startswith("?"):
            outcome.faults.append(f"`nm {' '.join(said.words)}` ended without a name: {said.name}")
        return said

    def _parts(self) -> dict[str, ProcessId]:
        note = notes.read(self._directory)
        return dict(note.parts) if note is not None else {}
