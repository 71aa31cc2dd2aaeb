#!/usr/bin/env bash
# Every check that needs no network and no machine of its own; all of them run, and the failed ones are named last.
set -uo pipefail
cd "$(dirname "$0")/.."
bin=$PWD/.venv/bin
failed=()

# A step that succeeds takes one line; one that fails shows all it said.
output=$(mktemp)
trap 'rm -f "$output"' EXIT
step() {
    local name=$1
    shift
    if "$@" >"$output" 2>&1; then
        printf 'ok      %s\n' "$name"
    else
        cat "$output"
        printf 'FAILED  %s\n' "$name"
        failed+=("$name")
    fi
}

in_dataplane() { (cd dataplane && "$@"); }

step "ruff" "$bin/ruff" check --quiet .
step "ruff format" "$bin/ruff" format --check --quiet .
step "mypy" "$bin/mypy"
step "layers" "$bin/lint-imports" --config tests/architecture/importlinter.ini --no-cache
step "rust modules" "$bin/python" -m scripts.rust_cycles
step "import cycles" "$bin/python" -m scripts.import_cycles
step "words" "$bin/python" -m scripts.words
step "stubs" "$bin/stubtest" nextmini_py --allowlist tests/architecture/stubtest_allowlist.txt
step "workflows" "$bin/check-jsonschema" --builtin-schema vendor.github-workflows .github/workflows/*.yml
step "action" "$bin/check-jsonschema" --builtin-schema vendor.github-actions action.yml
for script in scripts/*.sh .ci/run images/*/run images/node/exec; do
    step "shell: $script" bash -n "$script"
done
step "rust format" in_dataplane cargo fmt --all --check
step "clippy" in_dataplane cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
step "reference" "$bin/python" -m scripts.reference --check
step "pages" env NO_MKDOCS_2_WARNING=1 "$bin/mkdocs" build --strict --quiet

if [ "${#failed[@]}" -gt 0 ]; then
    printf '\nfailed: %s\n' "$(IFS=,; echo "${failed[*]}")" >&2
    exit 1
fi
echo "all checks passed"
