"""Carry out cases, one at a time, in one lab.

    groups are created → receivers and senders start → SIGKILL to a node → every side ends within its limit
        → the node is restarted → the same transfers again, which must be complete

A fault is a receiver that the sender or the receiver itself reports as complete although the file on its disk
has another SHA-256, a transfer that exceeds its limit, or one that ends without a reason.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.transfers.draw import NODES, Case, Transfer
from benchmarks.transfers.program import payload
from orchestrator.deploy.home import Home
from orchestrator.lab import Lab

__all__ = ["TOPOLOGY", "Outcome", "Transfers"]

TOPOLOGY = f"""name: transfers
seed: 7
topology: {{type: ring, n_nodes: {NODES}}}
defaults:
  link: {{rate: 200 Mbit, delay: 1 ms}}
  node: {{lossless: {{ready_grace: 4 s, report_timeout: 4 s}}}}
"""

LIMIT_S = 30.0
"""After this a transfer counts as hung: the protocol ends it after 4 s of grace or 16 s without progress."""

STEP_S = 45.0
"""After this a request to a program counts as hung."""

REPORT_DELAY_S = 1.0
"""Time for which the last report of a killed receiver may still be in flight to the sender."""

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class Outcome:
    """Result of a case.

    Attributes:
        case: The case.
        transfers: Number of transfers started, those after the kill included.
        verified: Receivers that a sender called complete and whose disk has the right bytes.
        named: Receivers that did not complete, each with its reason.
        unproven: Receivers that were complete when they were killed, before their program had written the
            file.
        faults: Checks that failed.
    """

    case: Case
    transfers: int = 0
    verified: int = 0
    named: int = 0
    unproven: int = 0
    faults: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as records store it."""
        return {
            "case": str(self.case),
            "kind": self.case.kind,
            "victim": self.case.victim,
            "transfers": self.transfers,
            "verified": self.verified,
            "named": self.named,
            "unproven": self.unproven,
            "faults": self.faults,
        }


class ExternalNode:
    """The running program of a node."""

    def __init__(self, settings: Path, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.transfers.program", str(settings), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
        )
        self._answers: dict[str, queue.Queue[dict[str, Any] | None]] = {}
        self._lock = threading.Lock()
        self._count = 0
        self._dead = False
        threading.Thread(target=self._read, daemon=True).start()
        self.killed_at: float | None = None

    def request(self, do: str, **words: Any) -> str:
        """Send a request; return the id of its answer."""
        self._count += 1
        number = f"{do} {self._count}"
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"id": number, "do": do, **words}) + "\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass  # it was killed; its answers are None
        return number

    def answer(self, number: str, limit_s: float = STEP_S) -> dict[str, Any] | None:
        """Wait for an answer; None when the program was killed before.

        Raises:
            TimeoutError: There was no answer within the limit.
        """
        try:
            return self._queue(number).get(timeout=limit_s)
        except queue.Empty:
            raise TimeoutError(f"{number} was not answered within {limit_s:g} s") from None

    def ask(self, do: str, **words: Any) -> dict[str, Any] | None:
        """Send a request and wait for its answer."""
        return self.answer(self.request(do, **words))

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        self.killed_at = time.monotonic()
        self._process.kill()
        self._process.wait()

    def _queue(self, number: str) -> queue.Queue[dict[str, Any] | None]:
        with self._lock:
            found = self._answers.setdefault(number, queue.Queue())
            if self._dead:
                found.put(None)
            return found

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                answer = json.loads(line)
            except ValueError:
                continue  # cut off by the kill
            self._queue(answer["id"]).put(answer)
        with self._lock:
            self._dead = True
            for waiting in self._answers.values():
                waiting.put(None)


@dataclass(slots=True)
class _Running:
    """A started transfer: program and request id of each side."""

    transfer: Transfer
    sender: tuple[ExternalNode, str] | None = None
    receivers: dict[int, tuple[ExternalNode, str]] = field(default_factory=dict)


class Transfers:
    """Carries out cases in one lab.

    Args:
        home: NM_HOME of the lab.
        folder: For the files that receivers write.
        name: The lab's name.
    """

    def __init__(self, home: Path, folder: Path, name: str = "transfers") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        topology = folder / "ring.yaml"
        topology.write_text(TOPOLOGY)
        all_nodes = list(range(1, NODES + 1))
        self._lab = Lab.up(topology, name=name, backend="native", external=all_nodes, home=Home(home))
        self._settings = {node: self._lab.node(node).config for node in all_nodes}
        self._external_nodes: dict[int, ExternalNode] = {}
        for node in all_nodes:
            self._external_nodes[node] = ExternalNode(self._settings[node], folder)
        for node in all_nodes:
            answer = self._external_nodes[node].answer("ready")
            assert answer is not None and answer["ready"], f"node {node} is not ready"

    def run(self, case: Case) -> Outcome:
        """Carry out a case."""
        outcome = Outcome(case)
        try:
            self._run(case, outcome)
        except (TimeoutError, AssertionError) as error:
            outcome.faults.append(str(error))
        for file in self._folder.glob(f"{case.number}.*"):
            file.unlink()
        return outcome

    def end(self) -> None:
        """End the programs and take the lab down."""
        for external in self._external_nodes.values():
            external.kill()
        self._lab.down()

    def _run(self, case: Case, outcome: Outcome) -> None:
        running = [self._prepare(each) for each in case.transfers]
        begin = time.monotonic()
        for each, where in running:
            outcome.transfers += 1
            self._begin(each, where)
        time.sleep(max(0.0, begin + case.moment - time.monotonic()))
        victim = self._external_nodes[case.node]
        victim.kill()
        time.sleep(case.pause)
        self._restart(case.node)
        for each, _ in running:
            self._check(each, outcome)
        # Sessions that still wait for a killed sender must not receive the transfers that follow.
        for node, external in self._external_nodes.items():
            assert external.ask("end") is not None, f"the program of node {node} has ended"
        for transfer in case.transfers:
            again = replace(transfer, name=f"{transfer.name}.again")
            outcome.transfers += 1
            each, where = self._prepare(again)
            self._begin(each, where)
            before = (outcome.named, outcome.unproven)
            self._check(each, outcome)
            if (outcome.named, outcome.unproven) != before:
                outcome.faults.append(f"{again.name} is not complete although every node runs again")

    def _prepare(self, transfer: Transfer) -> tuple[_Running, tuple[int, str]]:
        running = _Running(transfer)
        if not transfer.group:
            return running, (0, f"10.0.0.{transfer.receivers[0]}")
        source = self._external_nodes[transfer.source]
        made = source.ask("create", label=f"group {transfer.name}")
        assert made is not None and made.get("group"), f"no group: {made}"
        group, address = made["group"]
        for node in transfer.receivers:
            joined = self._external_nodes[node].ask("join", group=group)
            assert joined is not None and joined.get("joined"), f"node {node} did not join: {joined}"
        routed = source.ask("route", group=group, receivers=transfer.receivers)
        assert routed is not None and routed.get("routed"), f"no routes: {routed}"
        return running, (group, address)

    def _begin(self, running: _Running, where: tuple[int, str]) -> None:
        """Start both sides; the second one starts after the first one's calls were made."""
        transfer = running.transfer
        words = {
            "name": transfer.name,
            "group": where[0],
            "dest": where[1],
            "size": transfer.size,
            "limit_ms": int(LIMIT_S * 1000),
        }

        def send() -> None:
            external = self._external_nodes[transfer.source]
            number = external.request("send", receivers=transfer.receivers, **words)
            running.sender = (external, number)
            external.answer(f"{number} started")

        def receive() -> None:
            for node in transfer.receivers:
                external = self._external_nodes[node]
                number = external.request("receive", source=transfer.source, **words)
                running.receivers[node] = (external, number)
                external.answer(f"{number} started")

        for begin in (receive, send) if transfer.receiver_first else (send, receive):
            begin()

    def _restart(self, node: int) -> None:
        self._external_nodes[node] = ExternalNode(self._settings[node], self._folder)
        answer = self._external_nodes[node].answer("ready")
        assert answer is not None and answer["ready"], f"node {node} is not ready again"

    def _check(self, running: _Running, outcome: Outcome) -> None:
        transfer = running.transfer
        wanted = hashlib.sha256(payload(transfer.name, transfer.size)).digest()
        assert running.sender is not None
        result = running.sender[0].answer(running.sender[1])
        written = {}
        for node, (external, number) in running.receivers.items():
            answer = None
            if result is not None or external.killed_at is not None:
                answer = external.answer(number)
            file = self._folder / f"{transfer.name}.{node}"
            written[node] = file.exists() and hashlib.sha256(file.read_bytes()).digest() == wanted
            if answer is not None and answer.get("complete") and not written[node]:
                outcome.faults.append(f"{transfer.name}: node {node} is complete with other bytes")
            unexplained = answer is not None and not answer.get("complete") and not answer.get("reason")
            if unexplained and (answer is None or answer.get("state") != "waiting"):
                outcome.faults.append(f"{transfer.name}: node {node} ends without a reason: {answer}")
        if result is None:
            return  # the sender was killed and has no result
        if "error" in result or result["state"] in ("waiting", "active"):
            outcome.faults.append(f"{transfer.name}: the sender hangs: {result}")
            return
        for word, (state, reason) in result["peers"].items():
            node = int(word)
            killed_at = running.receivers[node][0].killed_at
            if state != "complete":
                outcome.named += 1
                if not reason:
                    outcome.faults.append(f"{transfer.name}: no reason for node {node}, {state}")
            elif written[node]:
                outcome.verified += 1
            elif killed_at is not None and result["at"] < killed_at + REPORT_DELAY_S:
                outcome.unproven += 1
            else:
                outcome.faults.append(f"{transfer.name}: FALSE: node {node} is called complete")
