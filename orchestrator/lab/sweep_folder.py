"""The folder of a sweep: what is to be run, and what was.

```text
sweep.json       the definition from the start on; runs, table and verdict when the sweep has ended
scenario/        the scenario's files, from which all runs are made
topologies/1/    a resolved topology, with the files that it names
c01-r2/          the folder of a run: combination 1, repetition 2; it has `done.json` when the run is complete
interrupted/     folders of runs that were cut short
plots/           the plot, as PNG and SVG
report.html      the page about the sweep, with links to those of its runs
```

`done.json` is written in one step when all else of a run is on disk. So a sweep that was killed at any moment
knows which runs it has, and none is made twice.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from orchestrator import topology
from orchestrator.errors import LabBusy, UsageError
from orchestrator.results import DONE, FORMAT, Bundle, RunOutcome, open_bundle, read_rows
from orchestrator.results.bundle import LOCK
from orchestrator.results.folder import unwritable
from orchestrator.results.sweep_table import sweep_table
from orchestrator.scenario import Axis, Combination, Scenario, SweepRun, combinations, load

__all__ = ["SweepFolder", "new_lab_name", "topology_digest"]

_ENTRY = tuple(RunOutcome("", "", "", "", 0, "error", "").as_json())


class SweepFolder:
    """A sweep on disk.

    Args:
        path: Its folder.
        document: What `sweep.json` holds.

    Attributes:
        runs: All its runs, in the order in which they are made.
    """

    def __init__(self, path: Path, document: Mapping[str, Any]) -> None:
        self.path = path
        self.document = dict(document)
        self.axes = tuple(Axis(a["key"], a["kind"], tuple(a["values"])) for a in document["axes"])
        combined = {each.number: each for each in combinations(self.axes)}
        self.runs = tuple(
            SweepRun(combined[each["combination"]], each["repetition"], each["seed"])
            for each in document["order"]
        )

    @classmethod
    def create(
        cls,
        path: Path,
        document: Mapping[str, Any],
        scenario: Scenario,
        topologies: Mapping[str, topology.Topology],
        runs: Sequence[SweepRun],
    ) -> SweepFolder:
        """Make the folder of a new sweep.

        Args:
            path: The folder; one that is there is refused.
            document: The definition, without the order and the topologies.
            scenario: Copied.
            topologies: By digest.
            runs: In order.

        Raises:
            HostNotFit: It cannot be written.
        """
        order = [
            {"combination": run.combination.number, "repetition": run.repetition, "seed": run.seed}
            for run in runs
        ]
        places = {digest: f"topologies/{number}" for number, digest in enumerate(topologies, 1)}
        folder = cls(
            path, {"format": FORMAT, **document, "verdict": "running", "order": order, "topologies": places}
        )
        try:
            path.mkdir(parents=True)
            for name, content in scenario.files().items():
                _put(path / "scenario" / name, content)
            for digest, each in topologies.items():
                _put(path / places[digest] / "topology.yaml", topology.dump(each).encode())
                for name, text in topology.traces(each).items():
                    _put(path / places[digest] / name, text.encode())
        except OSError as error:
            raise unwritable(path, error) from error
        folder.document["folder"] = folder._identity()
        folder.write()
        return folder

    @classmethod
    def open(cls, path: Path) -> SweepFolder:
        """Read the folder of a sweep.

        Raises:
            UsageError: It is none.
        """
        bundle = open_bundle(path)
        if bundle.kind != "sweep":
            raise UsageError(
                f"{path} is the folder of a run, not of a sweep",
                id="sweep.none",
                found=str(path),
                hint="`nm replay` repeats a single run",
            )
        try:
            return cls(path, bundle.document)
        except (KeyError, TypeError, AttributeError) as error:
            raise UsageError(
                f"{path / 'sweep.json'} is damaged: {error} is missing or wrong",
                id="results.damaged",
                found=str(path),
            ) from error

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the sweep, so that no other process makes its runs meanwhile.

        Raises:
            LabBusy: Another process holds it.
        """
        file: TextIO
        try:
            file = (self.path / LOCK).open("w")
        except OSError as error:
            raise unwritable(self.path, error) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise LabBusy(
                    f"the sweep {self.path} is being run by another process",
                    id="sweep.busy",
                    found=str(self.path),
                ) from error
            yield

    def separate_from_original(self) -> bool:
        """Give a copied sweep a lab name of its own; return whether the folder is a copy.

        The lab and the run under way that a copy names are those of the original, which may be running.

        Raises:
            HostNotFit: The folder cannot be written.
        """
        identity = self._identity()
        if self.document.get("folder", identity) == identity:
            return False
        self.document["folder"] = identity
        if self.document["own_lab"]:
            self.document["lab"] = new_lab_name()
        self.write()
        return True

    def _identity(self) -> str:
        """Device and inode of the folder: they stay when it is renamed, and a copy has others."""
        try:
            found = self.path.stat()
        except OSError as error:
            raise unwritable(self.path, error) from error
        return f"{found.st_dev}:{found.st_ino}"

    def scenario(self) -> Scenario:
        """The copy of the scenario."""
        # Its name may be that of its folder, which is `scenario` for every copy.
        return replace(load(self.path / "scenario", copied=True), name=self.document["scenario"])

    def topology(self, digest: str) -> topology.Topology:
        """A topology by its digest."""
        return topology.load(self.path / self.document["topologies"][digest] / "topology.yaml")

    def digest_of(self, combination: Combination) -> str:
        """The topology of a combination."""
        return str(self.document["topology_of"][str(combination.number)])

    def params_of(self, combination: Combination) -> dict[str, Any]:
        """The parameters of a combination, the fixed ones included."""
        return {**self.document["params"], **combination.of_kind(self.axes, "param")}

    def missing(self) -> list[SweepRun]:
        """The runs that are not complete."""
        return [run for run in self.runs if not (self.path / run.name / DONE).is_file()]

    def put_aside(self, run: SweepRun) -> str | None:
        """Move away what an attempt left that was cut short; return its run's id, if it got one."""
        left = self.path / run.name
        if not left.exists():
            return None
        number = 1
        while (target := self.path / "interrupted" / f"{run.name}-{number}").exists():
            number += 1
        try:
            target.parent.mkdir(exist_ok=True)
            left.rename(target)
            found = json.loads((target / "run.json").read_text(encoding="utf-8"))["run"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return str(found)

    def complete(self, run: SweepRun, outcome: RunOutcome) -> None:
        """Mark a run as complete; everything of it is on disk."""
        kept = {
            "combination": run.combination.number,
            "repetition": run.repetition,
            "values": dict(run.combination.values),
            "seed": run.seed,
            "run": outcome.run,
            "verdict": outcome.verdict,
        }
        _replace(self.path / run.name / DONE, kept)

    def entries(self) -> list[dict[str, Any]]:
        """The complete runs in the order of their combinations, as `sweep.json` has them."""
        found = []
        for run in sorted(self.runs, key=lambda each: (each.combination.number, each.repetition)):
            if (self.path / run.name / DONE).is_file():
                bundle = open_bundle(self.path / run.name)
                found.append({**_own(run), **_shown(bundle)})
        return found

    def summary(self, reason: str = "", failed: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The sweep with the runs that are complete by now, their table and the verdict."""
        entries, missing = self.entries(), self.missing()
        verdicts = {entry["verdict"] for entry in entries}
        bad = bool(missing) or bool(verdicts - {"pass", "fail"})
        some = f"{len(missing)} of {len(self.runs)} runs are missing" if missing else ""
        whys = failed or {}
        return {
            **self.document,
            "verdict": "error" if bad else "fail" if "fail" in verdicts else "pass",
            "reason": "; ".join(filter(None, (reason, some))),
            "missing": [
                {"name": each.name, **_own(each), "reason": whys.get(each.name, "")} for each in missing
            ],
            "runs": entries,
            "table": sweep_table(entries, self.document["seed"]),
        }

    def finish(self, reason: str, failed: Mapping[str, str], seconds: float) -> dict[str, Any]:
        """Write `sweep.json` with runs, table and verdict; return it.

        Args:
            reason: Why it ended before its last run; empty if it did not.
            failed: Runs that could not be made, with the reason.
            seconds: How long this took, this time.
        """
        self.document = {**self.summary(reason, failed), "seconds": round(seconds, 3)}
        self.write()
        return self.document

    def write(self) -> None:
        """Write `sweep.json`."""
        _replace(self.path / "sweep.json", self.document)


def new_lab_name() -> str:
    """Draw a name for the labs of a sweep."""
    return f"sweep-{secrets.token_hex(3)}"


def _own(run: SweepRun) -> dict[str, Any]:
    return {
        "combination": run.combination.number,
        "params": dict(run.combination.values),
        "repetition": run.repetition,
    }


def _shown(run: Bundle) -> dict[str, Any]:
    """A run as `nm run -o json` shows it."""
    return {**{key: run.document.get(key) for key in _ENTRY if key != "rows"}, "rows": read_rows(run)}


def topology_digest(meant: topology.Topology) -> str:
    """What tells one topology from another, in a sweep."""
    return hashlib.sha256(topology.dump(meant).encode()).hexdigest()[:16]


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _replace(path: Path, value: Mapping[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_text(json.dumps(value, indent=1, default=str) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise unwritable(path.parent, error) from error
