"""Test traces: how files are read and encoded, and what a link that has one states.

`tests/golden/bad_topologies/traces.yaml` has the errors.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from orchestrator import topology
from orchestrator.errors import Place, TopologyInvalid
from orchestrator.impairment import (
    Impossible,
    LinkSpec,
    check_traces,
    trace_from_text,
    trace_to_text,
    with_trace,
)
from orchestrator.source import Problems
from orchestrator.topology.link_words import describe, label
from orchestrator.topology.links import read_change, read_values
from orchestrator.topology.traces import MOST_ENTRIES, MOST_ROWS, Recording, TraceUse, read_trace, text_of
from scripts import sample_traces


def test_opportunities_are_counted_for_each_millisecond(tmp_path: Path) -> None:
    recording = _read(tmp_path, "down.mahi", "0\n5\n5\n\n300\n")
    # Kind 1; at 0 ms one, 5 ms later two, 295 ms later (0xa7 0x02) one.
    assert recording.data == bytes([1, 0, 1, 5, 2, 0xA7, 0x02, 1])
    assert (recording.sets, recording.end_us, recording.repeats) == (("rate",), 300_000, True)
    assert recording.mean_bps == pytest.approx(4 * 1_504 * 8 / 0.3)
    assert text_of(recording.data) == "0\n5\n5\n300\n"


def test_rows_have_plain_numbers_or_units(tmp_path: Path) -> None:
    plain = _read(tmp_path, "a.csv", "time_s,rate,delay,loss\n0,1000000,0.02,0.01\n1.5,2e6,0.005,0\n")
    units = _read(tmp_path, "b.csv", "loss, time_s, delay, rate\n1 %,0,20 ms,1 Mbit\n0 %,1.5,5 ms,2 Mbit\n")
    assert plain == units
    assert plain.data[:2] == bytes([2, 7])
    assert (plain.sets, plain.end_us, plain.repeats) == (("rate", "delay", "loss"), 1_500_000, False)
    assert plain.mean_bps == 1e6
    assert _read(tmp_path, "c.csv", text_of(plain.data)) == plain


def test_a_column_of_another_name_is_the_rate(tmp_path: Path) -> None:
    text = "time_s,rate,bw,signal\n0,1,5 Mbit,-80\n1,1,6 Mbit,-70\n"
    named = _read(tmp_path, "a.csv", text, column="bw")
    assert named == _read(tmp_path, "b.csv", "time_s,rate\n0,5 Mbit\n1,6 Mbit\n")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.mahi", "".join(f"{ms}\n" for ms in range(MOST_ENTRIES + 1))),
        ("a.csv", "time_s,rate\n" + "".join(f"{row},1\n" for row in range(MOST_ROWS + 1))),
        ("b.csv", "time_s,delay\n0,1\n0.00005,1\n"),
        ("c.csv", "time_s,rate\n0,nan\n"),
        ("d.csv", "time_s,rate,rate\n0,1,1\n"),
        ("e.csv", "time_s,rate\n"),
        ("f.mahi", "1.5\n"),
    ],
    ids=["entries", "rows", "dense", "nan", "twice", "header", "fraction"],
)
def test_what_cannot_be_played_is_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    problems = Problems("topology")
    assert read_trace(TraceUse(name, Place("x")), tmp_path, problems) is None
    assert [problem.id.rpartition(".")[2].startswith("trace-") for problem in problems] == [True]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ('time_s,rate\n0,"1\n1,2"\n2,3\n', 2, "it is not CSV (unexpected end of data)"),
        ('# from a modem\n\ntime_s,"rate\n0,1\n', 3, "it is not CSV (unexpected end of data)"),
        ('time_s,rate\n0,1\n1,"2"3\n', 3, "it is not CSV"),
        (f"time_s,rate\n0,1\n1,{'1' * 131_073}\n", 3, "field larger than field limit"),
        (f"time_s,{'r' * 131_073}\n0,1\n", 1, "field larger than field limit"),
    ],
    ids=["joined", "header", "after a quote", "long cell", "long name"],
)
def test_a_line_that_is_not_csv_is_refused_at_its_place(
    tmp_path: Path, text: str, line: int, says: str
) -> None:
    (tmp_path / "a.csv").write_text(text)
    problems = Problems("topology")
    assert read_trace(TraceUse("a.csv", Place("x")), tmp_path, problems) is None
    (problem,) = problems
    assert (problem.id, problem.place) == ("topology.trace-value", Place(str(tmp_path / "a.csv"), line, 1))
    assert says in problem.message and len(problem.message) < 300


def test_cells_may_be_quoted(tmp_path: Path) -> None:
    quoted = _read(tmp_path, "a.csv", '"time_s","rate"\n"0","1 Mbit"\n1,"2 Mbit"\n')
    assert quoted == _read(tmp_path, "b.csv", "time_s,rate\n0,1 Mbit\n1,2 Mbit\n")


def test_the_largest_trace_can_be_read(tmp_path: Path) -> None:
    recording = _read(tmp_path, "a.mahi", "".join(f"{ms}\n" for ms in range(1, MOST_ENTRIES + 1)))
    assert len(recording.data) == 1 + 2 * MOST_ENTRIES


def test_a_link_states_how_its_trace_is_played(tmp_path: Path) -> None:
    (tmp_path / "d.mahi").write_text("1\n10\n")
    (tmp_path / "r.csv").write_text("time_s,rate,loss\n0,1 Mbit,0\n1,9 Mbit,0\n")
    read = _loads(
        tmp_path,
        "defaults: {link: {rate: 1 Gbit, loss: 1 %}}\n"
        "links:\n"
        "  - {endpoints: [1, 2], delay: 5 ms, trace: {file: r.csv, loop: true, scale: 2, shift: 500 ms}}\n"
        "  - {endpoints: [2, 3], forward: {trace: d.mahi}, backward: {trace: none}}\n",
    )
    spec = read.links[0].forward
    assert (spec.rate_bps, spec.loss, spec.delay_us) == (None, None, 5_000), "the trace replaces defaults"
    assert spec.set_by_trace == ("rate", "loss")
    assert describe(spec) == "delay 5 ms, trace r.csv (loop, scale 2, shift 500 ms, mean 2 Mbit)"
    assert label(spec) == "5 ms · trace r.csv"
    forward, backward = read.links[1].forward, read.links[1].backward
    assert forward.trace_loop and (forward.rate_bps, forward.loss) == (None, 0.01)
    assert backward.trace is None and backward.rate_bps == 10**9
    assert "trace_data" not in forward.to_wire()
    assert forward.to_message()["trace_data"] == b"\x01\x01\x01\x09\x01"


def test_a_burst_beside_a_packet_delivery_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.mahi").write_text("1\n10\n")
    (tmp_path / "r.csv").write_text("time_s,rate\n0,1 Mbit\n1,9 Mbit\n")
    link = "links:\n  - {endpoints: [1, 2], burst: 9 KB, trace: %s}\n"
    with pytest.raises(TopologyInvalid, match="`burst` is stated as well"):
        _loads(tmp_path, link % "d.mahi")
    assert _loads(tmp_path, link % "r.csv").links[0].forward.rate_burst_bytes == 9_000


def test_a_resolved_topology_names_the_files_of_its_traces(tmp_path: Path) -> None:
    (tmp_path / "d.mahi").write_text("1\n10\n")
    read = _loads(tmp_path, "links: [{endpoints: [1, 2], trace: {file: d.mahi, loop: false}}]")
    files = topology.traces(read)
    assert list(files.values()) == ["1\n10\n"]
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "resolved.yaml").write_text(topology.dump(read))
    assert topology.load(tmp_path / "resolved.yaml").links == read.links


def test_a_live_trace_replaces_what_it_sets_and_none_ends_it(tmp_path: Path) -> None:
    (tmp_path / "d.mahi").write_text("1\n10\n")
    base = LinkSpec(rate_bps=10**6, delay_us=5, limit_packets=9)
    changed = read_change({"trace": "d.mahi"}, tmp_path).forward.over(base)
    assert (changed.rate_bps, changed.delay_us, changed.limit_packets) == (None, 5, 9)
    changed.check()
    with pytest.raises(Impossible, match="sets the rate"):
        LinkSpec(rate_bps=5).over(changed).check()
    ended = read_change({"trace": "none", "rate": "2 Mbit"}, tmp_path).forward.over(changed)
    assert ended == LinkSpec(rate_bps=2 * 10**6, delay_us=5, limit_packets=9)
    profile = read_change({"profile": "4g", "trace": "none"}, tmp_path)
    assert profile.whole and profile.forward.trace is None
    with pytest.raises(TopologyInvalid, match="no such file"):
        read_change({"trace": "missing.mahi"}, tmp_path)


def test_contents_travel_as_text_by_their_digest() -> None:
    spec = _spec(b"\x01\x01\x01\x09\x01" * 99)
    assert spec.trace is not None and spec.trace_data is not None
    text = trace_to_text(spec.trace_data)
    assert trace_from_text(spec.trace, text) == spec.trace_data
    assert with_trace(spec.without_data(), {spec.trace: spec.trace_data}).trace_data == spec.trace_data
    for wrong in (text[4:], "!", ""):
        with pytest.raises(ValueError, match="damaged"):
            trace_from_text(spec.trace, wrong)
    with pytest.raises(ValueError, match="missing"):
        with_trace(spec, {})


def test_the_traces_of_a_lab_are_bounded_together() -> None:
    large = _spec(b"\x01" * 3 * 2**20)
    check_traces([large] * 10)
    with pytest.raises(ValueError, match="33,554,432"):
        check_traces([large] * 11)


def test_the_shipped_traces_are_those_of_their_formulas() -> None:
    for name, make in sample_traces.FILES.items():
        assert (sample_traces.DIRECTORY / name).read_text() == make()
    read = topology.load(sample_traces.DIRECTORY.parent / "cellular.yaml")
    assert all(spec.trace for link in read.links for spec in (link.forward, link.backward))


def _read(directory: Path, name: str, text: str, column: str | None = None) -> Recording:
    (directory / name).write_text(text)
    problems = Problems("topology")
    recording = read_trace(TraceUse(name, Place("x"), column=column), directory, problems)
    assert recording is not None, list(problems)
    return recording


def _loads(directory: Path, text: str) -> topology.Topology:
    return topology.loads(f"n_nodes: 3\n{text}", str(directory / "t.yaml"))


def _spec(content: bytes) -> LinkSpec:
    return LinkSpec(trace=hashlib.sha256(content).hexdigest(), trace_sets="rate", trace_data=content)


def test_a_live_change_in_the_words_of_the_file_has_a_trace_or_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.mahi").write_text("5\n10\n")
    monkeypatch.chdir(tmp_path)
    begun = read_values({"trace": "a.mahi"}, "link.set")
    assert begun.forward.trace_file == "a.mahi" and begun.forward.trace_data
    ended = read_values({"trace": "none", "rate": "5 Mbit"}, "link.set").forward
    assert (ended.trace, ended.over(begun.forward).trace) == ("", None)
