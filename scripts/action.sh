#!/usr/bin/env bash
# The steps of the GitHub Action in action.yml; inputs come in NM_*, so that no input is read as a command.
#
#   scripts/action.sh prepare | install | run | summary | down
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Labs live in a home of their own, so that taking all of them down touches no other.
export NM_HOME=${NM_HOME:-$RUNNER_TEMP/nm-home}

# A run that did not come to its end exits with 1 as well; the results of tests are a list.
VERDICT='import json, sys
found = json.load(open(sys.argv[1]))
print(found["verdict"] if isinstance(found, dict) else "fail")'

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

prepare() {
    local missing=() package
    [ -e /dev/net/tun ] || as_root modprobe tun || true
    [ -w /dev/net/tun ] || as_root chmod 0666 /dev/net/tun
    # Ubuntu 24.04 lets no ordinary user make network namespaces unless this is off.
    local restricted=/proc/sys/kernel/apparmor_restrict_unprivileged_userns
    if [ -r "$restricted" ] && [ "$(<"$restricted")" != 0 ]; then
        as_root sysctl -q -w kernel.apparmor_restrict_unprivileged_userns=0
    fi
    command -v ip >/dev/null || missing+=(iproute2)
    command -v ping >/dev/null || missing+=(iputils-ping)
    for package in ${NM_PACKAGES:-}; do
        dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
    done
    if [ "${#missing[@]}" -gt 0 ]; then
        as_root apt-get update -qq
        as_root apt-get install -y -qq --no-install-recommends "${missing[@]}"
    fi
}

install() {
    local venv=$RUNNER_TEMP/nm-venv
    "${NM_PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/python" -m pip install -q --disable-pip-version-check "${NM_INSTALL:-$here/..}"
    echo "$venv/bin" >>"$GITHUB_PATH"
    "$venv/bin/nm" version
    [ "${NM_BACKEND:-native}" != docker ] || images "$("$venv/bin/nm" version)"
}

# Build the images of this version, unless the engine has them.
images() {
    local version=${1#nm }
    if ! docker image inspect "nm-node:$version" "nm-controller:$version" "nm-postgres:$version" >/dev/null 2>&1; then
        make -C "$here/.." images
    fi
}

run() {
    local words=() code=0 file line
    if [ -n "${NM_SCENARIO:-}" ] && [ -n "${NM_TEST:-}" ] || [ -z "${NM_SCENARIO:-}${NM_TEST:-}" ]; then
        echo "::error::give one of the inputs \`scenario\` and \`test\`"
        exit 2
    fi
    mkdir -p "$NM_RESULTS"
    echo "results=$NM_RESULTS" >>"$GITHUB_OUTPUT"
    if [ -n "$NM_TEST" ]; then
        file=$NM_RESULTS/tests.json
        words=(test "$NM_TEST" --junit "$NM_RESULTS/junit.xml")
    else
        file=$NM_RESULTS/run-output.json
        words=(run scenario "$NM_SCENARIO" --results "$NM_RESULTS")
        [ -z "$NM_TOPOLOGY" ] || words+=(--topology "$NM_TOPOLOGY")
        while IFS= read -r line; do
            [ -z "${line// /}" ] || words+=(--param "$line")
        done <<<"$NM_PARAMS"
    fi
    nm "${words[@]}" --backend "$NM_BACKEND" -o json >"$file" 2> >(tee "$NM_RESULTS/messages.txt" >&2) || code=$?
    case $code in
        0) echo "verdict=pass" ;;
        1) echo "verdict=$(python3 -c "$VERDICT" "$file")" ;;
        *) echo "verdict=error" ;;
    esac >>"$GITHUB_OUTPUT"
    exit "$code"
}

summary() { python3 "$here/action_summary.py" "$NM_RESULTS" >>"$GITHUB_STEP_SUMMARY"; }

down() {
    # Without an installation there is no lab, and `nm` is a program of binutils.
    if command -v nextmini >/dev/null; then nextmini down --all; fi
}

case ${1:-} in
    prepare | install | run | summary | down) "$1" ;;
    *)
        echo "usage: scripts/action.sh prepare|install|run|summary|down" >&2
        exit 2
        ;;
esac
