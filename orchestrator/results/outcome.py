"""The outcome of a run and its verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from orchestrator.scenario import CheckResult

Verdict = Literal["pass", "fail", "error"]
"""`pass`: every check held. `fail`: one did not. `error`: the run did not come to its end."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class RoleFailure:
    """A role that did not end well."""

    node: int
    role: str
    error: str
    traceback: str = ""

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> RoleFailure:
        """Read one from the end of a run, as the controller states it."""
        return cls(
            node=int(raw.get("node", 0)),
            role=str(raw.get("role", "")),
            error=str(raw.get("error") or ""),
            traceback=str(raw.get("traceback") or ""),
        )

    def as_json(self) -> dict[str, Any]:
        """The failure as `-o json` shows it."""
        return {"node": self.node, "role": self.role, "error": self.error, "traceback": self.traceback}


@dataclass(frozen=True)
class RunOutcome:
    """A run that has ended, whatever way.

    Attributes:
        run: Its id, which is also the name of its results folder unless another was given.
        scenario: The scenario's name.
        lab: The lab it ran in.
        backend: What carried the lab.
        seed: Every draw of the run came from it.
        verdict: See `Verdict`.
        results: The results folder.
        checks: The scenario's checks, in order; of a run that did not come to its end they say little.
        rows: What the roles reported, in order of arrival.
        reason: Why the verdict is `error`, as a sentence.
        failures: The roles that did not end well.
        seconds: From the start of the roles to the end of the last.
        unwritten: Why the results folder lacks something, as a sentence; empty when it has everything.
        fidelity: Whether the links did what was requested; empty when that is not known.
        traffic: What became of each entry of its traffic; see `traffic.summarise`.
        report: The page about the run, where one was written.
        details: Parameters, versions, host: what `run.json` holds besides.
    """

    run: str
    scenario: str
    lab: str
    backend: str
    seed: int
    verdict: Verdict
    results: str
    checks: tuple[CheckResult, ...] = ()
    rows: tuple[Row, ...] = ()
    reason: str = ""
    failures: tuple[RoleFailure, ...] = ()
    seconds: float = 0.0
    unwritten: str = ""
    fidelity: Mapping[str, Any] = field(default_factory=dict)
    traffic: tuple[Mapping[str, Any], ...] = ()
    report: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the verdict is `pass`."""
        return self.verdict == "pass"

    def as_json(self) -> dict[str, Any]:
        """The run as `nm run -o json` prints it."""
        return {
            "run": self.run,
            "scenario": self.scenario,
            "lab": self.lab,
            "backend": self.backend,
            "seed": self.seed,
            "verdict": self.verdict,
            "results": self.results,
            "checks": [{"name": each.name, "ok": each.ok, "detail": each.detail} for each in self.checks],
            "rows": [dict(row) for row in self.rows],
            "reason": self.reason,
            "failures": [failure.as_json() for failure in self.failures],
            "seconds": self.seconds,
            "unwritten": self.unwritten,
            "fidelity": dict(self.fidelity),
            "traffic": [dict(each) for each in self.traffic],
            "report": self.report or None,
        }

    def _repr_html_(self) -> str:
        """Verdict, checks and rows, for a notebook."""
        from orchestrator.results.html import document_html

        return document_html(self.as_json(), self.rows)

    def document(self) -> dict[str, Any]:
        """What `run.json` keeps: the same without the rows, which have their own files, and the details."""
        shown = self.as_json()
        del shown["rows"], shown["report"]
        return {**shown, **self.details}


def judge(checks: Sequence[CheckResult], *, ended_well: bool) -> Verdict:
    """The verdict of a run from its checks and from how its roles ended."""
    if not ended_well:
        return "error"
    return "pass" if all(check.ok for check in checks) else "fail"
