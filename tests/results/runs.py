"""Make results folders as runs leave them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.results import ResultsFolder, RunOutcome
from orchestrator.results.samples import Point
from orchestrator.results.series import SeriesFile

STARTED = "2026-01-31T12:00:00.000Z"


def make_run(
    path: Path,
    *,
    topology: str = "name: ring\ntopology: {type: ring, n_nodes: 4}\n",
    rows: Sequence[Mapping[str, Any]] = (),
    series: Sequence[tuple[float, Sequence[Point]]] = (),
    logs: Mapping[int, Sequence[str]] | None = None,
    events: Sequence[tuple[str, Any]] = (),
    **document: Any,
) -> Path:
    """Write a folder; `document` are keys of `run.json` besides the usual ones."""
    head = {"run": "hello-1", "scenario": "hello", "lab": "ring", "backend": "native", "seed": 7}
    details = {"params": {"size": 3}, "started": STARTED, "plots": []}
    known = {"verdict": "pass", "results": str(path), "seconds": 2.5, "details": details}
    for key, value in document.items():
        if key in RunOutcome.__dataclass_fields__:
            known[key] = value
        else:
            details[key] = value
    outcome = RunOutcome(**{**head, **known})  # type: ignore[arg-type]  # a test's shorthand
    folder = ResultsFolder(path, outcome.document(), topology)
    for kind, data in events:
        folder.event(kind, data=data)
    for row in rows:
        folder.row(row["node"], row["role"], row)
    for node, lines in (logs or {}).items():
        for line in lines:
            folder.log(node, "worker", "info", line)
    if series:
        file = SeriesFile(path)
        for time, points in series:
            file.write(time, points)
        file.finish()
        assert not file.trouble
    folder.write_tables()
    folder.finish(outcome)
    folder.close()
    return path


def document(path: Path) -> Any:
    """What `run.json` of a folder holds."""
    return json.loads((path / "run.json").read_text())


def large_run(path: Path, nodes: int = 100, seconds: int = 60) -> Path:
    """The folder of a run on a ring, with everything a run of so many nodes and seconds leaves."""
    links = [(a, b) for a in range(1, nodes + 1) for b in (a % nodes + 1, (a - 2) % nodes + 1)]
    traffic = ("packets", "bytes", "throughput", "queue_packets", "queue_bytes", "delay", "drops.loss")
    own = ("packets_out", "bytes_out", "packets_in", "bytes_in")
    series = []
    for second in range(1, seconds + 1):
        points = [
            Point("link", f"{a}->{b}", metric, (a * 7919 + b * 31 + second * 104729 + at * 13) % 10**7)
            for a, b in links
            for at, metric in enumerate(traffic)
        ]
        points += [
            Point("node", str(a), metric, (a * second * 7 + at) % 10**6)
            for a in range(1, nodes + 1)
            for at, metric in enumerate(own)
        ]
        series.append((second + 0.004, points))
    measured = {"rate": 5.1e6, "delay_mean": 0.02, "delay_p99": 0.03, "late_p99": 1e-4, "loss": 0.01}
    entries = [
        {
            "a": min(a, b),
            "b": max(a, b),
            "direction": "forward" if a < b else "backward",
            "requested": {"rate": 10**7, "delay": 0.02, "jitter": 0.0, "loss": 0.01},
            "measured": {**measured, "packets": 5_000, "drops": {"loss": 50}},
            "ok": True,
        }
        for a, b in links
    ]
    return make_run(
        path,
        topology=f"name: big\ntopology: {{type: ring, n_nodes: {nodes}}}\n",
        rows=[
            {"node": node, "role": "worker", "round": number, "seconds": node / 50, "bytes": node * number}
            for node in range(1, nodes + 1)
            for number in range(1, 6)
        ],
        series=series,
        logs={
            node: [f"line {n} of node {node}: " + "x" * 80 for n in range(50)] for node in range(1, nodes + 1)
        },
        events=[("role_finished", {"ok": True})] * nodes,
        fidelity={"verdict": "kept", "links": entries, "host": {"cpu_share": 0.5, "overload_drops": 0}},
    )
