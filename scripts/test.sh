#!/usr/bin/env bash
# Every test there is, in the order in which a failure is cheapest: Rust, quick Python, integration, system.
# Each group of tests is one pytest run; a skip that tests/expected_skips.txt does not name fails the run.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/require.sh --install test
make setup .venv/.stamps/tools

python=.venv/bin/python
export NM_STRICT_SKIPS=1
# Hundreds of programs are started; without compiled modules each spends half its time compiling them again.
unset PYTHONDONTWRITEBYTECODE
$python -m compileall -q orchestrator nextmini_py
stage() { echo; echo "== $* (at ${SECONDS} s)"; }
# Tests with real kernels, engines and clocks on a shared machine may fail by timing: failed ones are run again,
# alone, and a second failure counts. Quick tests are not repeated.
repeated() {
    run_tests "${workers[@]}" "$@" && return
    stage "again, by themselves: the tests that failed"
    run_tests "$@" --last-failed --last-failed-no-failures none
}
# Tests of one file stay in one process: they share databases and labs. Every test has a home of its own, so files
# run side by side; more processes than cores make the tests with clocks lose races.
workers=(-n "$(nproc)" --maxprocesses 4 --dist loadfile)
run_tests() { $python -m pytest -p scripts.skip_guard -q --durations=10 "$@" ${PYTEST_ARGS:-}; }

stage "Rust"
scripts/cargo_test.sh

stage "quick: everything pure"
run_tests "${workers[@]}" -m 'not integration and not system'

stage "integration: Postgres, namespaces, real programs"
repeated -m integration

if [ "$(scripts/require.sh --backend)" = docker ]; then
    stage "system: the Docker engine"
    make images
    repeated -m system
else
    stage "system: left out, because no Docker engine answers here"
fi
stage "all tests passed"
