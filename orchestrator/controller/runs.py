"""Manage scenario runs: assign roles to nodes, coordinate barriers and published values, detect failures.

A run ends when all its roles have ended. A role that fails, a lost process or the time limit stops the other
roles. Every change is stored as it happens, so that a restarted controller resumes the run when its agents
attach again. Time is an argument, in milliseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from orchestrator.controller.effects import Effects, failures_of
from orchestrator.controller.errors import AgentMissing, RunInvalid, RunUnknown
from orchestrator.controller.run import MAX_VALUES, MAX_VALUES_BYTES, NODE_STOPPED, Peer, Role, Run, planned
from orchestrator.protocol import ProtocolError
from orchestrator.protocol import messages as m
from orchestrator.values import ABANDONED, MAX_ERROR_BYTES, MAX_TRACEBACK_BYTES, safe_text

__all__ = ["AGENT_GRACE_MS", "STOP_GRACE_MS", "Effects", "Role", "Run", "Runs"]

AGENT_GRACE_MS = 5_000
"""How long an agent may be away before its roles are lost; long enough for a reconnect with back-off."""

CONFIRM_MS = 2_000
"""How long an agent that came back may take to say what became of a role that it does not run any more."""

STOP_GRACE_MS = 10_000
"""How long roles may take to stop before they are given up."""


class Runs:
    """All runs under way.

    Args:
        effects: Does what is decided here.
        names: Node names by id, for the roles.
    """

    def __init__(self, effects: Effects, names: Mapping[int, str]) -> None:
        self._effects = effects
        self._names = names
        self._runs: dict[str, Run] = {}
        self._agents: dict[int, Peer] = {}
        self._disconnected: dict[int, int] = {}  # node → when its agent is given up
        self._unconfirmed: dict[tuple[str, int], int] = {}  # run and node → when the role is given up
        self.agents_gone: set[int] = set()  # nodes whose agent was there, and did not come back
        self.agents_silent: set[int] = set()  # nodes whose agent has not reported the end of a role
        self._reregistered: set[int] = set()  # registered again while their agent was away: without one yet

    def __iter__(self) -> Iterator[Run]:
        return iter(list(self._runs.values()))

    @property
    def agents(self) -> Mapping[int, Peer]:
        """The agents that are connected, by node."""
        return self._agents

    def get(self, run_id: str) -> Run | None:
        """Return a run, None if there is none of that name."""
        return self._runs.get(run_id)

    def run(self, run_id: str) -> Run:
        """Return a run.

        Raises:
            RunUnknown: There is none of that name.
        """
        run = self._runs.get(run_id)
        if run is None:
            raise RunUnknown(f"there is no run `{run_id}`")
        return run

    # Starting.

    def start(self, wanted: m.StartRun, now_ms: int) -> Run:
        """Start a run.

        Raises:
            RunInvalid: It has no roles, or a node has two.
            AgentMissing: One of the nodes has no agent.
        """
        roles: dict[int, Role] = {}
        for name, nodes in sorted(wanted.roles.items()):
            for node in nodes:
                if node in roles:
                    text = f"node {node} has two roles, `{roles[node].role}` and `{name}`"
                    raise RunInvalid(text, hint="a node plays one role in a run")
                roles[node] = Role(node, name)
        if not roles:
            raise RunInvalid("the run has no roles", hint="name at least one role with a node")
        missing = sorted(node for node in roles if node not in self._agents)
        if missing:
            self._effects.call(missing)
            names = ", ".join(str(node) for node in missing[:12])
            hint = "agents were requested; if they do not connect, `nm logs NODE` says why"
            raise AgentMissing(f"no agent runs roles in the nodes {names}", hint=hint)
        run = Run(
            wanted.run,
            wanted.scenario,
            wanted.entry,
            wanted.files,
            wanted.params,
            wanted.seed,
            wanted.timeout_s,
            now_ms,
            roles,
            timeline=planned(wanted),
            faults=wanted.faults or False,
            isolated=wanted.isolated,
        )
        self._runs[run.id] = run
        self.event(run, now_ms, "started", data={"scenario": run.scenario, "roles": len(roles)})
        for peer in dict.fromkeys(self._agents[node] for node in roles):
            self._dispatch(run, peer)
        return run

    def restore(self, run: Run, now_ms: int) -> None:
        """Take a run that was under way when the last controller ended."""
        self._runs[run.id] = run
        if run.state == "stopping":
            run.stop_by_ms = now_ms + STOP_GRACE_MS
        for node in run.roles:
            if node not in self._agents:
                self._disconnected.setdefault(node, now_ms + AGENT_GRACE_MS)

    # Agents.

    def node_registered(self, node: int) -> None:
        """Note that a node's dataplane registered; what it should be running is asked about at once."""
        self.agents_gone.discard(node)
        self.agents_silent.discard(node)
        if node in self._disconnected:
            self._reregistered.add(node)
        if node not in self._agents and any(
            not run.over and node in run.roles and not run.roles[node].over for run in self
        ):
            self._effects.call([node])

    def node_stopped(self, node: int, now_ms: int) -> None:
        """A node is stopped by request: its roles are lost."""
        for run in self:
            role = run.roles.get(node)
            if not run.over and role is not None and not role.over:
                self._send([node], m.StopRole(run.id, node, NODE_STOPPED))
                self._lost(run, role, NODE_STOPPED, now_ms)

    def attach(self, peer: Peer, hello: m.AgentHello, now_ms: int) -> None:
        """Register an agent, with the roles that it is still running."""
        running = {(each.run, each.node) for each in hello.running}
        for node in hello.nodes:
            self._agents[node] = peer
            self._disconnected.pop(node, None)
            self.agents_gone.discard(node)
            self.agents_silent.discard(node)
            self._reregistered.discard(node)
        for name, node in sorted(running):
            if name not in self._runs:
                self._effects.send(peer, m.StopRole(name, node, "the controller does not know this run"))
        for run in list(self._runs.values()):
            if run.over:
                continue
            mine = [run.roles[node] for node in hello.nodes if node in run.roles]
            for role in mine:
                if (run.id, role.node) in running:
                    run.prepared.add(peer)
                elif role.state in ("sent", "running"):
                    # It may have ended while the agent was disconnected, and report that now.
                    self._unconfirmed[run.id, role.node] = now_ms + CONFIRM_MS
            self._dispatch(run, peer)
            if run.state == "stopping" and any(not role.over for role in mine):
                self._effects.send(peer, m.StopRole(run.id, 0, run.reason))

    def detach(self, peer: Peer, now_ms: int) -> None:
        """Record that an agent's connection ended; it may reconnect within a grace time."""
        nodes = {node for node, each in self._agents.items() if each == peer}
        for node in nodes:
            del self._agents[node]
            self._disconnected[node] = now_ms + AGENT_GRACE_MS
        # Nobody can confirm now; an agent that reconnects is asked again.
        self._unconfirmed = {key: due for key, due in self._unconfirmed.items() if key[1] not in nodes}
        for run in self._runs.values():
            run.prepared.discard(peer)
            for peers in run.lookups.values():
                peers.discard(peer)

    # Messages of roles. Messages about unknown runs are late, and ignored.

    def started(self, run_id: str, node: int, now_ms: int) -> None:
        """A role's code is running."""
        found = self._find(run_id, node)
        if found is not None and found[1].state in ("waiting", "sent"):
            run, role = found
            role.state = "running"
            self._effects.save_roles(run, [role])
            self.event(run, now_ms, "role_started", node, role.role)

    def refused(self, run_id: str, node: int, error: str, now_ms: int) -> None:
        """An agent cannot run a role."""
        self.finished(run_id, node, ok=False, error=error, traceback=None, now_ms=now_ms)

    def row(self, run_id: str, node: int, seq: int, row: Mapping[str, Any], now_ms: int) -> int:
        """A role reported a row; return the number of its event if it has to be kept, 0 if not."""
        found = self._find(run_id, node)
        if found is None or seq <= found[1].last_row or found[0].late:
            return 0
        run, role = found
        role.last_row = seq
        role.stored += 1
        self.event(run, now_ms, "report", node, role.reported_as(row), dict(row))
        return run.last_event

    def row_refused(self, run_id: str, node: int, seq: int, reason: str) -> None:
        """A row could not be kept after all; its role fails by that when it ends."""
        if (found := self._find(run_id, node)) is not None:
            found[1].stored -= 1
            found[1].refusal = found[1].refusal or f"row {seq} could not be stored: {reason}"

    def output(self, run_id: str, node: int, kind: str, data: Any, now_ms: int) -> None:
        """A role logged a line, or reported progress."""
        if (found := self._find(run_id, node)) is not None:
            self.event(found[0], now_ms, kind, node, found[1].role, data)

    def finished(
        self,
        run_id: str,
        node: int,
        *,
        ok: bool,
        error: str | None,
        traceback: str | None,
        now_ms: int,
        rows: int | None = None,
    ) -> None:
        """A role ended; saying so twice changes nothing.

        One that ended well but has reported more rows than were kept has failed.
        """
        self.agents_silent.discard(node)
        found = self._find(run_id, node)
        if found is None or found[1].over:
            return
        run, role = found
        self._unconfirmed.pop((run_id, node), None)
        missing = 0 if rows is None else max(0, rows - role.stored)
        run.unstored += missing
        if ok and missing and not run.late:
            ok = False
            error = f"it reported {rows} rows, of which {role.stored} were stored"
            error += f"; {role.refusal}" if role.refusal else ""
        error = None if error is None else safe_text(error, limit=MAX_ERROR_BYTES)
        traceback = None if traceback is None else safe_text(traceback, limit=MAX_TRACEBACK_BYTES)
        stopped = not ok and run.stopped_with(error)
        role.state = "finished" if ok else "stopped" if stopped else "failed"
        role.error, role.traceback = error, traceback
        self._effects.save_roles(run, [role])
        data = {"ok": ok, "error": error, "traceback": traceback}
        self.event(run, now_ms, "role_finished", node, role.role, data)
        if role.state == "failed":
            self._stop(run, f"role {role.role} in node {node} failed: {error or 'no reason given'}", now_ms)
        self.settle(run, now_ms)

    def enter_barrier(self, run_id: str, node: int, name: str, generation: int, now_ms: int) -> None:
        """A role waits at a barrier."""
        if (found := self._find(run_id, node)) is None:
            return
        run, role = found
        if generation <= run.barriers.get(name, 0):
            if node in self._agents:
                self._effects.send(self._agents[node], m.BarrierReleased(run.id, name, generation))
            return
        if not role.over:
            run.entered[(name, generation)].add(node)
            self._release(run, now_ms)

    def publish(self, run_id: str, key: str, value: Any, size: int = 0) -> bool:
        """A role publishes a value; return whether it has to be kept.

        Raises:
            ProtocolError: There are too many.
        """
        run = self._runs.get(run_id)
        if run is None or run.over:
            return False
        sizes = run.value_bytes
        total = sum(sizes.values()) - sizes.get(key, 0) + size
        if total > MAX_VALUES_BYTES or (key not in sizes and len(sizes) >= MAX_VALUES):
            raise ProtocolError(
                f"the run has published {len(sizes)} values of {sum(sizes.values())} bytes already",
                id="run.values",
                expected=f"at most {MAX_VALUES} values of {MAX_VALUES_BYTES} bytes in all",
            )
        sizes[key] = size
        run.values[key] = value
        for peer in run.lookups.pop(key, ()):
            self._effects.send(peer, m.Published(run.id, key, value))
        return True

    def lookup(self, run_id: str, key: str, peer: Peer) -> None:
        """A role asks for a value."""
        run = self._runs.get(run_id)
        if run is None:
            return
        if key in run.values:
            self._effects.send(peer, m.Published(run.id, key, run.values[key]))
        else:
            run.lookups[key].add(peer)

    # Ending.

    def stop(self, run_id: str, reason: str, now_ms: int) -> None:
        """Stop a run.

        Raises:
            RunUnknown: There is none of that name.
        """
        run = self.run(run_id)
        if not run.over:
            self._stop(run, reason, now_ms)
            self.settle(run, now_ms)

    def tick(self, now_ms: int) -> None:
        """Handle what is due: time limits, agents that did not reconnect."""
        missing = [key for key, due in self._unconfirmed.items() if due <= now_ms]
        for run_id, node in missing:
            del self._unconfirmed[run_id, node]
            found = self._find(run_id, node)
            if found is not None and not found[1].over:
                self._lost(*found, "its process was restarted", now_ms)
        gone = [node for node, due in self._disconnected.items() if due <= now_ms]
        for node in gone:
            del self._disconnected[node]
            if node not in self._reregistered:
                self.agents_gone.add(node)
            self._reregistered.discard(node)
        for run in list(self._runs.values()):
            if run.over:
                continue
            for role in [run.roles[node] for node in gone if node in run.roles]:
                if not role.over and role.node not in run.paused_nodes:
                    self._lost(run, role, "its process is gone", now_ms)
            if run.state == "running" and now_ms >= run.started_ms + run.timeout_s * 1000:
                run.late = True
                self._stop(run, run.too_long(), now_ms)
            if run.stop_by_ms is not None and now_ms >= run.stop_by_ms:
                for role in [role for role in run.roles.values() if not role.over]:
                    if role.node in self._agents:
                        self.agents_silent.add(role.node)
                    self._lost(run, role, f"it did not stop in time and {ABANDONED}", now_ms)
            self.settle(run, now_ms)

    def next_due(self) -> int | None:
        """Return when `tick` has something to do, None for never."""
        due = [*self._disconnected.values(), *self._unconfirmed.values()]
        for run in self._runs.values():
            if not run.over:
                due.append(run.stop_by_ms or run.started_ms + int(run.timeout_s * 1000))
        return min(due, default=None)

    def forget(self, run_id: str) -> None:
        """Drop a run that has ended from memory."""
        self._runs.pop(run_id, None)

    # Helpers.

    def _find(self, run_id: str, node: int) -> tuple[Run, Role] | None:
        run = self._runs.get(run_id)
        role = None if run is None or run.over else run.roles.get(node)
        return None if run is None or role is None else (run, role)

    def _dispatch(self, run: Run, peer: Peer) -> None:
        """Send an agent its roles that wait."""
        mine = [role for role in run.roles.values() if self._agents.get(role.node) == peer]
        waiting = [role for role in mine if role.state == "waiting"]
        if not waiting or run.state != "running":
            return
        if peer not in run.prepared:
            run.prepared.add(peer)
            shared = (run.id, run.scenario, dict(run.files), run.entry, dict(run.params), run.seed)
            rest = (run.by_role(), dict(self._names), run.timeout_s, run.isolated)
            self._effects.send(peer, m.PrepareRun(*shared, *rest))
        for role in waiting:
            role.state = "sent"
            self._effects.send(peer, m.RunRole(run.id, role.node, role.role))
        self._effects.save_roles(run, waiting)

    def _lost(self, run: Run, role: Role, why: str, now_ms: int) -> None:
        role.state, role.error = run.loss_of(role, why)
        self._effects.save_roles(run, [role])
        self.event(run, now_ms, "role_lost", role.node, role.role, {"reason": role.error})
        if role.state == "lost":
            self._stop(run, f"role {role.role} in node {role.node} was lost: {why}", now_ms)
        self.settle(run, now_ms)

    def _stop(self, run: Run, reason: str, now_ms: int) -> None:
        if run.state != "running":
            return
        run.state, run.reason = "stopping", safe_text(reason, limit=2 * MAX_ERROR_BYTES)
        run.stop_by_ms = now_ms + STOP_GRACE_MS
        self._effects.save_run(run, now_ms)
        self.event(run, now_ms, "stopping", data={"reason": reason})
        for role in run.roles.values():
            if role.state == "waiting":
                role.state = "stopped"
        nodes = [role.node for role in run.roles.values() if not role.over]
        self._send(nodes, m.StopRole(run.id, 0, run.reason))

    def settle(self, run: Run, now_ms: int) -> None:
        """End a run whose roles have all ended; else see whether a barrier is complete now."""
        if run.over:
            return
        if not all(role.over for role in run.roles.values()):
            self._release(run, now_ms)
            return
        bad = [role for role in run.roles.values() if role.state in ("failed", "lost")]
        ok = not run.reason and not bad
        run.state = "finished" if ok else "failed"
        run.note_unstored()
        failures = failures_of((role.node, role.role, role.error, role.traceback) for role in bad)
        self._effects.save_run(run, now_ms)
        # What a run opened ends with it, before the next one can begin.
        self._send(run.roles, m.StopRole(run.id, 0, "the run has ended"))
        self._effects.report_end(run, m.RunFinished(run.id, ok, run.reason, failures, run.unstored or None))
        run.files, run.values, run.value_bytes, run.lookups = {}, {}, {}, {}

    def _release(self, run: Run, now_ms: int) -> None:
        there = {role.node for role in run.roles.values() if role.enters_barriers}
        complete = [key for key, nodes in run.entered.items() if len(nodes) >= len(there) and there <= nodes]
        for name, generation in complete if there else ():
            del run.entered[(name, generation)]
            run.barriers[name] = max(generation, run.barriers.get(name, 0))
            self._effects.save_barrier(run, name, generation)
            self.event(run, now_ms, "barrier", data={"name": name, "generation": generation})
            self._send(sorted(there), m.BarrierReleased(run.id, name, generation))

    def _send(self, nodes: Iterable[int], message: m.StopRole | m.BarrierReleased) -> None:
        """Send a message to the agents of nodes, once to each."""
        for peer in dict.fromkeys(self._agents[node] for node in nodes if node in self._agents):
            self._effects.send(peer, message)

    def event(
        self, run: Run, now_ms: int, kind: str, node: int = 0, role: str = "", data: Any = None
    ) -> None:
        """Record an event."""
        seq = 0
        if kind != "progress":
            run.last_event += 1
            seq = run.last_event
        self._effects.record_event(run, m.RunEvent(run.id, seq, now_ms, kind, node, role, data))
