"""Test the page about a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.results.sweep_plot import draw
from orchestrator.results.sweep_report import write
from orchestrator.results.sweep_table import sweep_table


def entry(number: int, verdict: str = "pass", reason: str = "") -> dict[str, Any]:
    return {
        "combination": number, "params": {"mode": f"<m{number}>"}, "repetition": 1, "verdict": verdict,
        "seconds": 1.0, "reason": reason, "results": f"elsewhere/c0{number}-r1",
        "checks": [{"name": "fast", "ok": verdict == "pass", "detail": "it took <2 s>"}],
        "rows": [{"node": 1, "role": "a", "seconds": float(number)}],
    }  # fmt: skip


def test_the_page_has_table_plot_and_runs_with_links_to_pages_that_exist(tmp_path: Path) -> None:
    runs = [entry(1), entry(2, "fail")]
    missing = [
        {"combination": 2, "params": {"mode": "y"}, "repetition": 2, "name": "c02-r2", "reason": "no lab"}
    ]
    axes = [{"key": "mode", "kind": "param", "values": ["<m1>", "<m2>"]}]
    document = {
        "sweep": "sweep-mine-1", "scenario": "mine", "verdict": "error", "reason": "1 of 3 runs are missing",
        "seed": 7, "axes": axes, "order": [{}, {}, {}], "runs": runs, "missing": missing,
        "table": sweep_table(runs, 7),
    }  # fmt: skip
    files = draw(document, ("a", "seconds"), tmp_path / "plots")
    document["plots"] = [str(file.relative_to(tmp_path)) for file in files]
    (tmp_path / "c01-r1").mkdir()
    (tmp_path / "c01-r1" / "report.html").touch()
    page = write(tmp_path, document).read_text()
    assert '<a href="c01-r1/report.html">c01-r1</a>' in page and 'href="c02-r1' not in page
    assert page.count("<svg") == 1 and "plots/a-seconds.svg" in page
    assert "&lt;m1&gt;" in page and "<m1>" not in page
    assert "fast: it took &lt;2 s&gt;" in page and "no lab" in page and "2 of 3" in page
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
