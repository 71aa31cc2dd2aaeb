#!/usr/bin/env bash
# The whole main job in one command: a ring of four nodes, real model weights multicast through it, the table.
#   scripts/demo.sh [docker|native]      without a word: docker where it can be used, else native
set -euo pipefail
cd "$(dirname "$0")/.."

given=${1:-}
backend=${given:-$(scripts/require.sh --choose)}
case "$backend" in
    docker | native) ;;
    *)
        echo "demo: BACKEND is '$backend', but only docker and native are backends" >&2
        exit 2
        ;;
esac
# What was asked for is checked as it stands; what was chosen for the user may be installed, as root.
if [ -n "$given" ]; then scripts/require.sh "$backend"; else scripts/require.sh --install "$backend"; fi

started=$SECONDS
make setup
if [ "$backend" = docker ] && ! make images; then
    [ -z "$given" ] || exit 4
    echo "demo: the images cannot be built here, so this goes on with the native backend" >&2
    backend=native
    scripts/require.sh --install native
fi
payload=$(.venv/bin/python scripts/payload.py build/payload)
echo "ready after $((SECONDS - started)) s; backend $backend, payload $payload"

lab=demo-$$
nm=.venv/bin/nm
# Shows a command as the user would type it, and runs it.
show() {
    echo
    printf '$ nm'
    printf ' %q' "$@"
    echo
    "$nm" "$@"
}
up=0
finish() {
    local status=$?
    trap - EXIT INT TERM
    if [ "$up" = 1 ]; then show down -n "$lab" || status=$?; fi
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

up=1
show up topologies/ring.yaml --backend "$backend" -n "$lab"
show run scenario weights-sync -n "$lab" --param payload="$PWD/$payload"
