"""Test a disk that is full while a run writes: what was known stays readable, and the place is said."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from orchestrator.results import find_bundles, load, open_bundle, read_rows

PROGRAM = """
import resource, sys
from pathlib import Path
from orchestrator.results import ResultsFolder, RunOutcome

resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))  # no file grows beyond
folder = ResultsFolder(Path(sys.argv[1]), {"run": "r", "scenario": "s"}, "name: ring\\n")
for number in range(400):
    if folder.row(1, "a", {"n": number, "text": "x" * 1000}):
        folder.write_tables()
folder.write_last_tables()
folder.finish(RunOutcome("r", "s", "l", "native", 7, "pass", sys.argv[1], rows=tuple(folder.rows)))
folder.close()
print(folder.trouble)
"""


def test_what_was_known_before_the_disk_was_full_stays_readable(tmp_path: Path) -> None:
    target = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(target)], capture_output=True, text=True, timeout=60, check=True
    )
    assert f"cannot write results to {target}: File too large" in done.stdout
    document = json.loads((target / "run.json").read_text())
    assert document["verdict"] == "pass" and "File too large" in document["unwritten"]
    kept = [row["n"] for row in read_rows(open_bundle(target))]
    assert len(kept) > 30 and kept == list(range(len(kept)))
    assert len(json.loads((target / "rows.json").read_text())) <= len(kept)
    assert list(load(target).rows["n"]) == list(range(400))  # it is compressed, and fitted
    (target / "rows.parquet").unlink()
    assert list(load(target).rows["n"]) == kept
    assert [each.name for each in find_bundles(tmp_path)] == ["r"]
    assert not list(target.glob(".*"))
