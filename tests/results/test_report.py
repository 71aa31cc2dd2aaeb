"""Test the page about a run, in a browser where that shows more than its text."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from orchestrator.results.report import render, write
from orchestrator.results.samples import Point
from orchestrator.scenario import CheckResult
from orchestrator.scenario.plots import Plot
from tests.chromium import open_page
from tests.results.runs import large_run, make_run

EVIL = "<script>window.evil=1</script><img src=x onerror='window.evil=1'>\"'&</title></style></svg>$x^"


class Tags(HTMLParser):
    """Collects what a page consists of."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.ids: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        self.ids += [value for name, value in attrs if name == "id" and value]


def evil_run(path: Path) -> Path:
    """A run whose names, rows, logs, parameters, events, checks and failures try to be markup."""
    plot = Plot(name=f"a {EVIL}", kind="box", x="state", y="seconds")
    return make_run(
        path,
        topology="name: ring\ntopology: {type: ring, n_nodes: 3}\n",
        run=EVIL,
        scenario=EVIL,
        lab=EVIL,
        reason=EVIL,
        checks=(CheckResult(EVIL, False, EVIL, 0, 1),),
        rows=[
            {"node": 1, "role": EVIL, EVIL: EVIL, "seconds": 1.5, "state": EVIL},
            {"node": 1, "role": EVIL, EVIL: EVIL, "seconds": 2.5, "state": "__x"},
        ],
        series=[(1.0, [Point("flow", EVIL, "throughput", 5), Point("link", EVIL, "throughput", 5)])],
        logs={1: [EVIL]},
        events=[("timeline", {"do": EVIL, "where": EVIL, "error": EVIL}), (EVIL, {EVIL: EVIL})],
        params={EVIL: EVIL},
        plots=[plot.as_json()],
        fidelity={
            "verdict": "broken",
            "links": [{"a": EVIL, "b": 2, "direction": "forward", "ok": False, "broken": [EVIL]}],
        },
    )


def test_the_page_says_what_a_run_was_and_needs_nothing_else(tmp_path: Path) -> None:
    run = make_run(
        tmp_path,
        rows=[{"node": n, "role": "worker", "seconds": n / 2} for n in (1, 2)],
        series=[(t, [Point("link", "1->2", "throughput", 5e6)]) for t in (1.0, 2.0)],
        logs={2: [f"line {n}" for n in range(30)]},
        events=[
            ("started", None),
            (
                "timeline",
                {"do": "set", "where": "1–2", "change": {"spec": {"delay_us": 80_000}}, "late_ms": 1},
            ),
        ],
        checks=(CheckResult("all complete", True, "2 of 2 rows", 2, 2),),
    )
    written = render(run)
    page = written.path.read_text()
    assert written.path == tmp_path / "report.html" and written.problems == ()
    for text in ("hello-1", "all complete", "delay 80 ms", "line 29", "params.size", "throughput of links"):
        assert text in page
    assert "line 9<" not in page  # the last lines of a log alone
    found = Tags(page)
    assert not found.tags & {"script", "iframe", "object", "embed", "base"}
    urls = [value or "" for name, value in found.attributes if name in ("src", "href", "xlink:href")]
    assert all(re.match(r"#|data:", url) for url in urls), urls
    assert len(set(found.ids)) == len(found.ids)
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {
        f"{name}.{kind}" for name in ("throughput-of-links", "worker-seconds") for kind in ("svg", "png")
    }


def test_what_tries_to_be_markup_stays_text(tmp_path: Path) -> None:
    page = write(evil_run(tmp_path)).read_text()
    found = Tags(page)
    assert not found.tags & {"script", "img"}
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert page[: page.index("</head>")].count("</title>") == 1
    assert page.count("&lt;script&gt;window.evil=1") > 10


def test_nothing_of_a_run_is_executed_in_a_browser(tmp_path: Path) -> None:
    page = write(evil_run(tmp_path))
    opened = open_page(page.as_uri(), "typeof window.evil", "document.images.length")
    assert opened.console == [] and opened.requests == [page.as_uri()]
    assert opened.values == ["undefined", 0]
    assert "<script>window.evil=1</script>" in opened.text


def test_the_page_of_a_hundred_nodes_is_small_and_opens_at_once(tmp_path: Path) -> None:
    page = write(large_run(tmp_path))
    assert page.stat().st_size < 5_000_000
    opened = open_page(page.as_uri(), "document.querySelectorAll('details').length")
    assert opened.console == [] and opened.requests == [page.as_uri()] and opened.values == [100]
    assert opened.seconds < 2.0


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_follows_the_readers_choice_of_light_or_dark(tmp_path: Path, dark: bool) -> None:
    page = write(make_run(tmp_path, series=[(1.0, [Point("link", "1->2", "throughput", 5e6)])]))
    colours = ("body", ".plots svg text", ".topology svg text.title")
    asked = [f"getComputedStyle(document.querySelector('{each}')).{{}}" for each in colours]
    opened = open_page(
        page.as_uri(),
        asked[0].format("backgroundColor"),
        asked[1].format("fill"),
        asked[2].format("fill"),
        dark=dark,
    )
    paper, plot, title = (sum(map(int, re.findall(r"\d+", each)[:3])) for each in opened.values)
    assert (paper < 150) is dark and (plot > 500) is dark and (title > 500) is dark


def test_the_folder_of_a_killed_run_has_a_page_too(tmp_path: Path) -> None:
    run = make_run(tmp_path, verdict="running")
    (run / "rows.json").write_text("[{")
    (run / "topology.yaml").unlink()
    (run / "series.csv").write_text("time_s,kind,object,metric,value\n1.0,link,1->2,throughput,5000\n2.0,li")
    with (run / "events.jsonl").open("a") as events:
        events.write(
            '{"kind": "report", "data": {"node": 3, "role": "worker", "seconds": 4.25}}\n{"kind": "re'
        )
    written = render(run)
    page = written.path.read_text()
    assert "4.250" in page and "throughput of links" in page and "was killed" in page
    assert any("rows.json" in each for each in written.problems)
    assert any("topology" in each for each in written.problems)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"verdict": "pass", "fidelity": null, "checks": null}'])
def test_a_damaged_description_of_a_run_still_gives_a_page(tmp_path: Path, content: str) -> None:
    run = make_run(tmp_path)
    (run / "run.json").write_text(content)
    assert "Topology" in write(run).read_text()


def test_drawing_again_replaces_what_was_drawn(tmp_path: Path) -> None:
    run = make_run(tmp_path, rows=[{"node": n, "role": "worker", "seconds": n / 2} for n in (1, 2)])
    write(run)
    (run / "plots" / "old.png").write_bytes(b"")
    first = (run / "plots" / "worker-seconds.svg").read_text()
    write(run)
    assert {path.name for path in (run / "plots").iterdir()} == {"worker-seconds.svg", "worker-seconds.png"}
    assert (run / "plots" / "worker-seconds.svg").read_text() == first  # the same run, the same picture


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        write(tmp_path / "nothing")


def test_many_events_are_listed_from_both_ends(tmp_path: Path) -> None:
    events: list[tuple[str, Any]] = [(f"event-{n}", None) for n in range(1000)]
    page = write(make_run(tmp_path, events=events)).read_text()
    assert "event-0<" in page and "event-500<" not in page and "event-999<" in page
    assert "events in the middle are left out" in page
