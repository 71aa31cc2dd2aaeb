"""Cases, targets and the command line of the packet-path benchmark."""

from __future__ import annotations

from benchmarks.dataplane import benchmark
from benchmarks.dataplane.__main__ import main, parse
from benchmarks.dataplane.benchmark import Settings
from benchmarks.dataplane.cases import CASES, LOOPBACK, PATHS, Case
from benchmarks.dataplane.grading import case_results, target_results
from benchmarks.figures import Round, Sample
from benchmarks.path_checks import Check


def test_every_reference_is_a_case_of_the_same_kind_that_stands_in_the_list() -> None:
    by_name = {case.name: case for case in CASES}
    assert len(by_name) == len(CASES)
    for case in CASES:
        assert case.path in {plan.name for plan in PATHS}
        if case.reference is not None:
            assert by_name[case.reference].kind == case.kind


def test_targets_one_to_nine_have_a_case() -> None:
    assert {case.target for case in CASES} - {None} == set(range(1, 10))


def test_choosing_one_path_brings_its_references_along() -> None:
    names = {case.name for case in benchmark._chosen(frozenset({"nm-17"}))}
    assert names == {"nm-17/tcp", "veth-16/tcp", "veth-2/tcp", LOOPBACK}


def test_a_target_shows_the_reason_when_its_path_cannot_run() -> None:
    case = Case("nm-2", "tcp", reference="veth-2/tcp", target=1)
    results = case_results([case], [Round(1, True, {"veth-2/tcp": Sample(30.0)})], {"nm-2": "no TUN device"})
    graded = target_results(results)[0]
    assert (graded.reached, graded.grade, graded.note) == (None, "not measured", "nm-2: no TUN device")


def test_a_target_with_several_cases_takes_the_worst_of_those_that_ran() -> None:
    cases = [Case(path, "tcp", reference="ref/tcp", target=4) for path in ("nm-processes", "nm-docker")]
    samples = {"ref/tcp": Sample(20.0), "nm-processes/tcp": Sample(12.0), "nm-docker/tcp": Sample(9.0)}
    graded = target_results(case_results(cases, [Round(1, True, samples)], {}))[3]
    assert (graded.reached, graded.grade) == (0.45, "gate")
    assert "nm-processes: 0.600" in graded.basis and "nm-docker: 0.450" in graded.basis


def test_a_round_trip_counts_as_it_is_not_as_a_ratio() -> None:
    case = Case("nm-2", "rtt", target=9)
    rounds = [Round(n, True, {"nm-2/rtt": Sample(value)}) for n, value in enumerate((54.0, 60.0, 52.0))]
    graded = target_results(case_results([case], rounds, {}))[8]
    assert (graded.reached, graded.grade) == (54.0, "target")


def test_unpinned_rounds_do_not_mix_with_pinned_ones() -> None:
    case = Case("nm-2", "tcp", reference="veth-2/tcp", target=1)
    rounds = [
        Round(1, True, {"veth-2/tcp": Sample(10.0), "nm-2/tcp": Sample(9.0)}),
        Round(2, False, {"veth-2/tcp": Sample(10.0), "nm-2/tcp": Sample(5.0)}),
    ]
    result = case_results([case], rounds, {})[0]
    assert result.pinned is not None and result.pinned.paired == 0.9
    assert result.unpinned is not None and result.unpinned.paired == 0.5
    assert target_results([result])[0].reached == 0.9


def test_a_run_without_path_checks_does_not_pass() -> None:
    passed, failed = Check("nm-2", "bytes", True, ""), Check("nm-2", "bytes", False, "")
    assert benchmark._checks_ok(Settings(), [passed])
    assert not benchmark._checks_ok(Settings(), [passed, failed])
    assert not benchmark._checks_ok(Settings(checks=False), [])


def test_an_unknown_path_is_wrong_usage() -> None:
    assert main(["--only", "veth-3"]) == 2


def test_the_defaults_are_those_of_a_run_that_counts() -> None:
    options = parse([])
    assert options.rounds >= 5 and 2 <= options.seconds <= 4 and options.transfer == 1000
