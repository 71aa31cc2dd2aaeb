#!/usr/bin/env bash
# Search for inputs that break the dataplane, with libFuzzer; the targets are described in dataplane/fuzz/src/lib.rs.
#
#   scripts/fuzz.sh                   every target for FUZZ_SECONDS (default 60) each, one after the other
#   scripts/fuzz.sh packets           that target
#   scripts/fuzz.sh packets FILE      that input, once
#   MINIMISE=1 scripts/fuzz.sh        no search: store what was found, without what is covered already
#
# New inputs go to build/fuzz/TARGET; one that fails is named at the end and stays in build/fuzz/failed.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${FUZZ_SECONDS:-60}
work=$PWD/build/fuzz
command -v cargo-fuzz >/dev/null || {
    echo "cargo-fuzz is not installed; install it with: cargo install cargo-fuzz" >&2
    exit 2
}

# The engine refuses nothing for its length alone, so inputs may be as long as a few frames. A neighbour's worst frame
# is a matter of milliseconds; an input that takes seconds is a fault.
limits=(-max_len=4096 -len_control=20 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1)

# The stable compiler has the coverage instrumentation and no sanitizers; assertions and overflow checks are on.
# Link-time optimisation would take minutes for each of the programs.
fuzz() {
    local command=$1 target=$2
    shift 2
    CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 cargo fuzz "$command" --fuzz-dir dataplane/fuzz --sanitizer none --features libfuzzer \
        --target-dir "$work/target" "$target" "$@"
}

# What a target stores besides the inputs with names of their own: enough to reach most of the code again, small enough
# for the repository.
most=200
minimise() {
    local target=$1 stored=dataplane/fuzz/corpus/$1 found=$work/$1
    local hashed='[0-9a-f]{40}$'
    find "$stored" -type f -regextype posix-extended -regex ".*/$hashed" -exec mv -t "$found" {} +
    fuzz run "$target" "$stored" "$found" -- -merge=1 -use_counters=0 -max_len=4096
    # Too many reach something of their own: every so manieth of them, in the order of their names.
    mapfile -t extra < <(find "$stored" -type f -regextype posix-extended -regex ".*/$hashed" | sort)
    local index kept=0
    for index in "${!extra[@]}"; do
        if [ $(((index + 1) * most / (${#extra[@]} > most ? ${#extra[@]} : most))) -gt $kept ]; then
            kept=$((kept + 1))
        else
            mv "${extra[index]}" "$found"
        fi
    done
}

targets=(control stream packets sessions ring max)
if [ $# -ge 2 ]; then
    fuzz run "$1" "$2" -- "${limits[@]}"
    exit
fi
[ $# -eq 0 ] || targets=("$1")

failed=()
for target in "${targets[@]}"; do
    stored=dataplane/fuzz/corpus/$target
    mkdir -p "$work/$target" "$work/failed" "$stored"
    if [ -n "${MINIMISE:-}" ]; then
        minimise "$target"
        continue
    fi
    echo "== $target, $seconds s"
    fuzz run "$target" "$work/$target" "$stored" -- "${limits[@]}" "-max_total_time=$seconds" \
        "-artifact_prefix=$work/failed/$target-" || failed+=("$target")
done
if [ ${#failed[@]} -gt 0 ]; then
    printf 'failed: %s; the inputs are in %s\n' "${failed[*]}" "$work/failed" >&2
    exit 1
fi
