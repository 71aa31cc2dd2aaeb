"""Carry out kills, one at a time, in a lab that restarts nothing.

    the lab is brought into the state of the phase → the phase's command starts → SIGKILL
        → every command ends with a result or an error id
        → `nm status` reports `ready`, or the part that is gone
        → `nm up` restarts only that part, or `nm down` leaves nothing

A fault is a check of these that fails; the lab is then taken down and the series continues.
"""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.chaos.commands import CommandResult, Nm, Started
from benchmarks.chaos.draw import Kill
from benchmarks.chaos.leftovers import SeenState
from benchmarks.chaos.report import CLEAN, DOWN, ITSELF, REPAIRED
from orchestrator import procfs
from orchestrator.deploy import processes
from orchestrator.deploy import state as notes
from orchestrator.deploy.home import Home
from orchestrator.procfs import ProcessId

__all__ = ["Chaos", "Outcome"]

PARTS = ("host", "controller", "postgres")

RUN_LIMIT_S = 20.0
"""The time limit of a run; after it the run has some seconds to stop."""

COMMAND_LIMIT_S = 90.0
"""After this a command counts as hung; the time limits of the commands themselves are well below."""

ROLES_S = {"weights-sync": 0.8, "pingall": 0.05}
"""Typical duration of the roles of a run."""

RECOVERY_S = 12.0
"""Time within which `nm status` must report `ready` or the part that is gone."""


@dataclass(slots=True)
class Outcome:
    """Result of a kill.

    Attributes:
        kill: The kill.
        hit: Whether the victim was running.
        way: One of `report.WAYS`.
        names: Results of the commands and states of the lab, in order.
        faults: Checks that failed.
        output: Output of the commands, for finding the cause of a fault.
    """

    kill: Kill
    hit: bool = False
    way: str = ""
    names: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    output: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as records store it."""
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
    """Carries out kills in one lab.

    Args:
        home: NM_HOME of the lab; created for this series.
        topology: The lab's topology file.
        lab: The lab's name.
    """

    def __init__(self, home: Path, topology: Path, lab: str) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._home = Home(home)
        self._lab = lab
        self._topology = topology
        self._nm = Nm(home, home.parent)
        self._directory = self._home.lab(lab)
        self._seen = SeenState(self._directory)
        self._is_up = False
        # Usual duration of each command, updated from commands that were not disturbed.
        self._usual = {"up": 2.0, "down": 0.8, "weights-sync": 1.5, "pingall": 0.7}

    def run(self, kill: Kill) -> Outcome:
        """Carry out one kill and all checks after it."""
        outcome = Outcome(kill)
        try:
            self._prepare(outcome)
            if not outcome.faults:
                outcome.names.clear()
                self._kill_and_check(outcome)
        except AssertionError as error:
            outcome.faults.append(str(error))
        if outcome.faults:
            self._down(outcome)
        return outcome

    def end(self) -> list[str]:
        """Take the lab down and return what is left."""
        outcome = Outcome(Kill(0, "end", "none", "down", 0.0, repair=False))
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

    def _kill_and_check(self, outcome: Outcome) -> None:
        kill = outcome.kill
        before = self._parts()
        started = None if self._without_command(kill) else self._start(kill)
        began = time.monotonic()
        if started is not None and kill.phase == "run" and kill.number % 2:
            self._wait_for_roles(kill, started)
            time.sleep(kill.moment * ROLES_S[kill.command])
        else:
            time.sleep(kill.moment * self._usual.get(kill.command, 0.4))  # the moment is what varies
        if started is not None and started.over:
            outcome.names.append(f"{kill.command} was over")
        outcome.hit = self._kill(kill, started)
        self._seen.update()
        if kill.phase == "up":
            self._after_up(outcome, started)
        elif kill.phase == "down":
            self._after_down(outcome, started)
        else:
            self._after_idle_or_run(outcome, started, before)
        if not outcome.hit and started is not None:
            self._usual[kill.command] = min(self._usual.get(kill.command, 9.0), time.monotonic() - began)

    def _wait_for_roles(self, kill: Kill, started: Started) -> None:
        """Wait until the roles of the run have started; half of the runs are killed after that."""
        while not started.over:
            # Each run has its own folder there.
            for events in self._results(kill).glob("*/events.jsonl"):
                if "role_started" in events.read_text(encoding="utf-8"):
                    return
            time.sleep(0.002)

    def _results(self, kill: Kill) -> Path:
        return self._home.path.parent / "results" / str(kill.number)

    def _without_command(self, kill: Kill) -> bool:
        """Whether no command is running at the kill."""
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
        """Kill the victim; wait for it to appear while the command is running."""
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
        """The part's first process; for the database the server, or the process that creates its cluster."""
        found = processes.labelled(self._home.path, self._lab)
        self._seen.pids |= {each.identity.pid for each in found}
        mine = [each.identity for each in found if each.part == part]
        return min(mine, key=lambda each: each.started, default=None)

    # After the kill.

    def _after_up(self, outcome: Outcome, started: Started | None) -> None:
        assert started is not None, "a start was in progress"
        result = self._add_result(outcome, started.end(COMMAND_LIMIT_S))
        if result.code == 0:
            self._is_up = True
            self._check_status(outcome, self._parts())
        elif result.code == -9:
            state = self._status(outcome)
            note = notes.read(self._directory)
            if state is not None and state["state"] == "ready" and (note is None or note.phase != "up"):
                outcome.faults.append("a lab whose start was interrupted is reported as ready")
            outcome.way = REPAIRED if outcome.kill.repair else DOWN
            self._repair_or_down(outcome, None)
        else:
            outcome.way = CLEAN
            self._require_nothing_left(outcome)

    def _after_down(self, outcome: Outcome, started: Started | None) -> None:
        assert started is not None, "a stop was in progress"
        result = self._add_result(outcome, started.end(COMMAND_LIMIT_S))
        self._is_up = False
        if result.code == -9:
            state = self._status(outcome)
            repairs = state is not None and outcome.kill.repair
            outcome.way = REPAIRED if repairs else DOWN
            if repairs:
                self._up(outcome)
            self._down(outcome)
        elif result.code == 0:
            outcome.way = CLEAN
            self._require_nothing_left(outcome)
        else:
            outcome.faults.append(f"`nm down` failed: {result.name}")

    def _after_idle_or_run(
        self, outcome: Outcome, started: Started | None, before: dict[str, ProcessId]
    ) -> None:
        kill = outcome.kill
        if started is not None and kill.victim == "nm":
            self._add_result(outcome, started.end(COMMAND_LIMIT_S))
            started = None
        self._check_status(outcome, before, running=started)
        if started is not None:
            result = self._add_result(outcome, started.end(COMMAND_LIMIT_S))
            data = result.data if isinstance(result.data, dict) else {}
            outcome.output.append(f"reason: {data.get('reason')}")

    def _check_status(
        self, outcome: Outcome, before: dict[str, ProcessId], running: Started | None = None
    ) -> None:
        """Check that the status is ready or names what is gone; then `nm up` or `nm down` follows."""
        gone = {part for part, process in before.items() if not process.alive()}
        state = self._status(outcome, expected=gone)
        if state is None:
            return
        outcome.way = ITSELF if state["state"] == "ready" else REPAIRED if outcome.kill.repair else DOWN
        if gone and state["state"] == "ready":
            outcome.faults.append(f"the lab is reported as ready without {', '.join(sorted(gone))}")
        for part in gone:
            if not any(part in problem for problem in state["problems"]):
                outcome.faults.append(f"status does not name {part}: {state['problems']}")
        self._repair_or_down(outcome, before)

    def _repair_or_down(self, outcome: Outcome, before: dict[str, ProcessId] | None) -> None:
        if not outcome.kill.repair:
            self._down(outcome)
            return
        lived = {part: process for part, process in (before or {}).items() if process.alive()}
        self._up(outcome)
        restarted = [part for part, process in lived.items() if self._parts().get(part) != process]
        if restarted:
            outcome.faults.append(f"`nm up` restarted what was alive: {', '.join(restarted)}")

    # Commands that must succeed, and the checks after them.

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
        result = self._add_result(outcome, self._nm(*self._up_words(), limit_s=COMMAND_LIMIT_S))
        if not self._is_up:
            self._usual["up"] = time.monotonic() - began
        self._is_up = result.code == 0
        self._seen.update()
        if result.code != 0:
            outcome.faults.append(f"`nm up` failed: {result.name}")
        elif result.data["state"] != "ready":
            outcome.faults.append(
                f"after `nm up` the lab is {result.data['state']}: {result.data['problems']}"
            )
        else:
            self._check_reachable(outcome)

    def _check_reachable(self, outcome: Outcome) -> None:
        """A lab that is reported as ready forwards packets between all nodes at once."""
        words = ("exec", "-n", self._lab, "all", "-o", "json", "--", "ping", "-c", "1", "-W", "5", "node-3")
        result = self._nm(*words, limit_s=COMMAND_LIMIT_S)
        if result.code != 0:
            outcome.output.append(str(result))
            outcome.faults.append(f"the lab is ready, and nodes do not reach each other: {result.name}")

    def _down(self, outcome: Outcome) -> None:
        self._seen.update()
        began = time.monotonic()
        result = self._add_result(
            outcome, self._nm("down", "-n", self._lab, "-o", "json", limit_s=COMMAND_LIMIT_S)
        )
        if self._is_up:
            self._usual["down"] = time.monotonic() - began
        self._is_up = False
        if result.code != 0:
            outcome.faults.append(f"`nm down` failed: {result.name}")
        self._require_nothing_left(outcome)

    def _require_nothing_left(self, outcome: Outcome) -> None:
        self._is_up = False
        left = self._seen.left()
        if left:
            outcome.faults.append(f"left: {'; '.join(left)}")
        self._seen = SeenState(self._directory)

    def _status(self, outcome: Outcome, expected: set[str] | None = None) -> dict[str, Any] | None:
        """Poll until the state is final: ready, failed, or degraded because of what is gone."""
        deadline = time.monotonic() + RECOVERY_S
        while True:
            result = self._nm("status", "-n", self._lab, "-o", "json", limit_s=30.0)
            state = result.data if result.code == 0 else None
            final = state is None or state["state"] in ("ready", "failed") or bool(expected)
            if final or time.monotonic() > deadline:
                break
        self._add_result(outcome, result)
        if state is None:
            outcome.names[-1] = f"status {result.name}"
            return None
        outcome.names[-1] = f"status {state['state']}"
        if state["state"] not in ("ready", "degraded", "failed"):
            outcome.faults.append(f"the lab stays {state['state']}: {state['problems']}")
        elif state["state"] != "ready" and not state["problems"]:
            outcome.faults.append(f"the lab is {state['state']} without a problem")
        elif state["state"] == "degraded" and not any("does not run" in each for each in state["problems"]):
            outcome.faults.append(f"nothing is gone, and the lab stays degraded: {state['problems']}")
        return dict(state)

    def _add_result(self, outcome: Outcome, result: CommandResult) -> CommandResult:
        outcome.names.append(f"{result.words[0]} {result.name}")
        outcome.output.append(str(result))
        if result.name.startswith("?"):
            outcome.faults.append(
                f"`nm {' '.join(result.words)}` ended without a known result: {result.name}"
            )
        return result

    def _parts(self) -> dict[str, ProcessId]:
        note = notes.read(self._directory)
        return dict(note.parts) if note is not None else {}
