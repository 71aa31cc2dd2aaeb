#!/usr/bin/env bash
# Name what this machine lacks for a make target, with the command that installs it, before anything is built.
#
#   scripts/require.sh TARGET      check; every missing thing is listed, exit 4 if there is one
#   scripts/require.sh --install TARGET
#                                  the same, but as root on Debian or Ubuntu install the missing packages first
#   scripts/require.sh --python    print the newest suitable Python interpreter
#   scripts/require.sh --backend   print the backend that fits this machine: docker where an engine answers
#   scripts/require.sh --choose    print the backend that can run here, after installing (as root) what it needs;
#                                  native, with the reason, where an engine answers but cannot be used
#
# Targets: setup, images, docker, native, test, check. Plain bash, because Python itself may be missing.
set -euo pipefail

PYTHON_MINIMUM="3.11"
# As the crates say; a test compares it with what the locked packages need, those of the tests included.
[[ $(<"${BASH_SOURCE[0]%/*}/../dataplane/Cargo.toml") =~ rust-version\ =\ \"([0-9.]+)\" ]]
RUST_MINIMUM=${BASH_REMATCH[1]}
BASE_IMAGE=${BASE_IMAGE:-debian:bookworm-slim}
LOCAL_BASE=nm-base:bookworm
# What a first build takes: 0.8 GB in the environment, the core and the weights of the demo, and room to make them.
BUILD_MB=1500

missing=()  # one line each: what, and how to get it
packages=() # the Debian packages that provide it

has() { command -v "$1" >/dev/null 2>&1; }

# lack WHAT HOW [PACKAGE…]: remember one missing thing.
lack() {
    missing+=("$1"$'\n'"    $2")
    packages+=("${@:3}")
}

apt_line() {
    if has apt-get; then
        printf 'sudo apt-get install -y %s' "$*"
    else
        printf "install the equivalent of Debian's package %s" "$*"
    fi
}

# need_program PROGRAM PACKAGE WHY
need_program() {
    has "$1" || lack "$1 ($3)" "$(apt_line "$2")" "$2"
}

# at_least HAVE WANT: dotted versions, HAVE >= WANT.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

suitable_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11; do
        [ -n "$candidate" ] && has "$candidate" || continue
        "$candidate" -c "import sys; sys.exit(sys.version_info < (${PYTHON_MINIMUM/./, }))" 2>/dev/null || continue
        printf '%s\n' "$candidate"
        return 0
    done
    return 1
}

engine_answers() { has docker && timeout 10 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

# The package that has a Rust new enough: cargo since Debian 13, cargo-web in Debian 12.
rust_package() {
    local package version
    has apt-cache || return 1
    for package in cargo cargo-web; do
        version=$(apt-cache policy "$package" 2>/dev/null | awk '$1 == "Candidate:" {print $2}')
        case "$version" in
            [0-9]*) at_least "${version%%[-+~]*}" "$RUST_MINIMUM" || continue ;;
            *) continue ;;
        esac
        printf '%s\n' "$package"
        return 0
    done
    return 1
}

# lack_rust WHAT: Debian's own where it is new enough, else what its makers say.
lack_rust() {
    local package rustup="curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y"
    if package=$(rust_package); then
        lack "$1" "$(apt_line "$package")   (or rustup: https://rustup.rs)" "$package"
    elif has curl; then
        lack "$1" "$rustup"
    else
        lack "$1" "$(apt_line curl ca-certificates) && $rustup"
    fi
}

check_setup() {
    local python version room
    # Asked for a first build alone: tools that find a full disk halfway say anything but that.
    if [ ! -e .venv/.stamps/native ] && has df; then
        room=$(df -Pm . 2>/dev/null | awk 'NR == 2 {print $4}')
        case "$room" in
            '' | *[!0-9]*) ;; # some file systems do not tell
            *) [ "$room" -ge "$BUILD_MB" ] ||
                lack "room on disk: $BUILD_MB MB in this folder (found $room)" "make room, or clone into a folder on another disk" ;;
        esac
    fi
    if python=$(suitable_python); then
        "$python" -c 'import venv, ensurepip' 2>/dev/null ||
            lack "Python's venv module" "$(apt_line python3-venv)" python3-venv
    else
        lack "Python $PYTHON_MINIMUM or newer" "$(apt_line python3 python3-venv)" python3 python3-venv
    fi
    has cc || has gcc || has clang || lack "a C compiler" "$(apt_line gcc libc6-dev)" gcc libc6-dev
    if has cargo && has rustc; then
        version=$(rustc --version | awk '{print $2}')
        at_least "${version%%-*}" "$RUST_MINIMUM" ||
            lack_rust "Rust $RUST_MINIMUM or newer (found $version)"
    else
        lack_rust "cargo and rustc $RUST_MINIMUM or newer"
    fi
}

check_images() {
    if ! has docker; then
        lack "Docker" "$(apt_line docker.io)" docker.io
        return
    fi
    if ! engine_answers; then
        lack "an answering Docker engine" \
            "sudo systemctl start docker   (and: sudo usermod -aG docker \$USER, then log in again)"
        return
    fi
    # An engine that can neither find nor pull the base gets one from Debian's own packages, which takes root.
    if ! docker image inspect "$BASE_IMAGE" >/dev/null 2>&1 &&
        ! docker image inspect "$LOCAL_BASE" >/dev/null 2>&1 &&
        ! timeout 120 docker pull -q "$BASE_IMAGE" >/dev/null 2>&1; then
        need_program debootstrap debootstrap "builds the base image, because $BASE_IMAGE can not be pulled"
        [ "$(id -u)" = 0 ] || lack "root, to build a base image with debootstrap" "sudo make base-image"
    fi
}

# Labs do without Compose; the tests show that it reads our files as we do.
check_compose() {
    docker compose version >/dev/null 2>&1 || has docker-compose ||
        lack "Docker Compose" "$(apt_line docker-compose)" docker-compose
}

check_native() {
    if [ ! -c /dev/net/tun ]; then
        lack "the TUN device /dev/net/tun" "sudo modprobe tun"
    elif [ ! -r /dev/net/tun ] || [ ! -w /dev/net/tun ]; then
        lack "access to /dev/net/tun" "sudo chmod 0666 /dev/net/tun"
    fi
    if [ "$(id -u)" != 0 ] && ! { has unshare && unshare --user --map-root-user --net true 2>/dev/null; }; then
        lack "network namespaces (root, or user namespaces for ordinary users)" \
            "sudo sysctl -w kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0"
    fi
}

# What the tests run inside the nodes and beside them. A test whose program is missing would be skipped.
check_test() {
    check_native
    need_program ip iproute2 "network namespaces in tests"
    need_program ping iputils-ping "reachability tests"
    need_program iperf3 iperf3 "throughput tests"
    need_program curl curl "HTTP between nodes"
    need_program nft nftables "uplinks of nodes"
    need_program pasta passt "uplinks of nodes"
    need_program traceroute traceroute "hops in tests"
    need_program redis-server redis-server "a replica across nodes"
    need_program ssh openssh-client "ssh between nodes"
    [ -x /usr/sbin/sshd ] || lack "sshd (ssh between nodes)" "$(apt_line openssh-server)" openssh-server
    # Not `grep -q`, which ends early: `ldconfig` would fail for its broken pipe, and with it the pipeline.
    { ldconfig -p || /sbin/ldconfig -p; } 2>/dev/null | grep libpcap >/dev/null || lack "libpcap (filters of captures)" "$(apt_line libpcap0.8)" libpcap0.8
    need_program psql postgresql-client "a Postgres client across nodes"
    has chromium || has chromium-browser || has google-chrome ||
        lack "Chromium (the page about a run in a browser)" "$(apt_line chromium)" chromium
    if engine_answers; then check_images; check_compose; fi
}

check_target() {
    missing=()
    packages=()
    case "$1" in
        setup | wheel | native-core | check) check_setup ;;
        images) check_setup; check_images ;;
        docker) check_setup; check_images ;;
        native) check_setup; check_native ;;
        test) check_setup; check_test ;;
        *)
            echo "require.sh: unknown target '$1'" >&2
            exit 2
            ;;
    esac
}

# Root on Debian may install; the services that such packages would start on the machine stay off.
# install_packages TARGET: what it lacks and Debian has; its words are shown where it fails.
install_packages() {
    [ "${#missing[@]}" -gt 0 ] && [ "$(id -u)" = 0 ] && has apt-get || return 0
    local policy=/usr/sbin/policy-rc.d placed=0 status=0 words
    # A machine that never asked for the lists of packages does not know which Rust there is.
    words=$(apt-get update -qq 2>&1) || { printf '%s\n' "$words" >&2; return 1; }
    check_target "$1"
    [ "${#packages[@]}" -gt 0 ] || return 0
    echo "installing: ${packages[*]}" >&2
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        placed=1
    fi
    export DEBIAN_FRONTEND=noninteractive
    words=$(apt-get install -y -qq --no-install-recommends "${packages[@]}" 2>&1) || {
        status=$?
        printf '%s\n' "$words" | tail -n 20 >&2
    }
    if [ "$placed" = 1 ]; then rm -f "$policy"; fi
    return "$status"
}

# complain TARGET: list what is missing.
complain() {
    local what="\`make $1\`"
    case "$1" in docker | native) what="the $1 backend" ;; esac
    echo "this machine lacks what $what needs; nothing was built:"
    printf '  %s\n' "${missing[@]}"
}

choose_backend() {
    local backend=native
    if engine_answers; then
        check_target docker
        if [ "${#missing[@]}" -gt 0 ]; then
            install_packages docker || true
            check_target docker
        fi
        if [ "${#missing[@]}" = 0 ]; then
            backend=docker
        else
            complain docker
            echo "going on with the native backend; BACKEND=docker insists on Docker"
        fi >&2
    fi
    echo "$backend"
}

main() {
    case "${1:-}" in
        --choose) choose_backend; exit ;;
        --python) suitable_python; exit ;;
        --backend)
            if engine_answers; then echo docker; else echo native; fi
            exit
            ;;
        --install)
            shift
            check_target "$1"
            install_packages "$1" || true
            ;;
    esac
    check_target "${1:?usage: require.sh [--install] TARGET}"
    [ "${#missing[@]}" = 0 ] && exit 0
    complain "$1" >&2
    exit 4
}

main "$@"
