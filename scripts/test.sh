#!/usr/bin/env bash
# Every test there is, in the order in which a failure is cheapest: Rust, quick Python, integration, system.
# The circles are one pytest run each; a skip that tests/expected_skips.txt does not name fails the run.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/require.sh --install test
make setup .venv/.stamps/tools

python=.venv/bin/python
export NM_STRICT_SKIPS=1
stage() { echo; echo "== $* (at ${SECONDS} s)"; }
# What meets real kernels, engines and clocks on a shared machine may lose a race once: it is run again by itself,
# in the open, and a second failure counts. The pure tests get no second chance.
real_circle() {
    circle "$@" && return
    stage "again, by themselves: the tests that failed"
    circle "$@" --last-failed --last-failed-no-failures none
}
circle() { $python -m pytest -p scripts.skip_guard -q --durations=10 "$@" ${PYTEST_ARGS:-}; }

stage "Rust"
scripts/cargo_test.sh

# The pure tests share nothing, so they take all processors; tests of one file stay together, for their fixtures.
stage "quick: everything pure"
circle -n auto --dist loadfile -m 'not integration and not system'

stage "integration: Postgres, namespaces, real programs"
real_circle -m integration

if [ "$(scripts/require.sh --backend)" = docker ]; then
    stage "system: the Docker engine"
    make images
    real_circle -m system
else
    stage "system: left out, because no Docker engine answers here"
fi
stage "all tests passed"
