"""Write the folders of sweeps as a sweep leaves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from orchestrator.results.bundle import FORMAT


def write_sweep(folder: Path, values: dict[str, list[float]], **document: Any) -> Path:
    """Write a sweep over `mode` whose runs reported `seconds` and a constant."""
    folder.mkdir()
    head = {"format": FORMAT, "sweep": folder.name, "scenario": "s", **document}
    (folder / "sweep.json").write_text(json.dumps(head))
    for combination, (mode, seconds) in enumerate(values.items(), 1):
        for repetition, value in enumerate(seconds, 1):
            run = folder / f"c{combination:02d}-r{repetition}"
            run.mkdir()
            part = {"combination": combination, "repetition": repetition, "values": {"mode": mode}}
            (run / "done.json").write_text(json.dumps(part))
            rows = [{"node": 1, "role": "a", "seconds": value, "bytes": 8}]
            (run / "rows.json").write_text(json.dumps(rows))
            (run / "run.json").write_text(json.dumps({"run": run.name, "verdict": "pass"}))
    return folder
