#!/usr/bin/env bash
# Every test there is, in the order in which a failure is cheapest: Rust, quick Python, then integration and system.
# Each group of tests is one pytest run; a skip that tests/expected_skips.txt does not name fails the run.
set -euo pipefail
cd "$(dirname "$0")/.."

stage() { echo; echo "== $* (at ${SECONDS} s)"; }
stage "the tools, the program"
scripts/require.sh --install test
make setup .venv/.stamps/tools

python=.venv/bin/python
export NM_STRICT_SKIPS=1
# Hundreds of programs are started; without compiled modules each spends half its time compiling them again.
unset PYTHONDONTWRITEBYTECODE
$python -m compileall -q orchestrator nextmini_py
stage() { echo; echo "== $* (at ${SECONDS} s)"; }
run_tests() { $python -m pytest -p scripts.skip_guard -q --durations=10 "$@" ${PYTEST_ARGS:-}; }
# Tests of one file stay in one process: they share databases and labs. Every test has a home of its own, and every
# lab of containers a name of its own, so files run in parallel, the longest first (tests/conftest.py).
parallel=(--dist loadfile --no-loadscope-reorder --maxprocesses 8)
cores=$(nproc)
# Tests with real kernels, engines and clocks on a shared machine may fail by timing: failed ones are run again,
# alone, and a second failure counts. Quick tests are not repeated.
repeated() {
    # Half of the time these tests wait, for processes that start and end and for timeouts.
    run_tests -n $((2 * cores)) "${parallel[@]}" -m "$1" && return
    stage "again, alone: the tests that failed"
    run_tests -m "$1" --last-failed --last-failed-no-failures none
}

real=integration
if [ "$(scripts/require.sh --backend)" = docker ]; then
    real="integration or system"
    # Building images is mostly fetching and unpacking, so it runs in the background of the Rust and quick tests.
    mkdir -p build
    make images >build/images.log 2>&1 &
    images=$!
    trap 'kill "$images" 2>/dev/null || true' EXIT
fi

stage "Rust"
scripts/cargo_test.sh

stage "quick: everything pure"
run_tests -n "$cores" "${parallel[@]}" -m 'not integration and not system'

if [ "$real" != integration ]; then
    stage "images"
    wait "$images" || { cat build/images.log; exit 1; }
    cat build/images.log
    trap - EXIT
    stage "integration and system: Postgres, namespaces, real programs, the Docker engine"
else
    stage "integration: Postgres, namespaces, real programs (system: left out, because no Docker engine answers here)"
fi
repeated "$real"
stage "all tests passed"
