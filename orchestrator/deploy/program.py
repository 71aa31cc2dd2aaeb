"""Start a program in a node with default signal dispositions, and report a missing program clearly.

A program inherits more than its arguments: ignored and blocked signals, and the file mode mask. Python
ignores SIGPIPE and SIGXFSZ, a shell lets background jobs ignore SIGINT, `nohup` SIGHUP. None of that is meant
for the program, so it starts with all signals at their defaults and none blocked. The mask is the caller's.

A shell looks the program up in the node and executes it. The exit codes for failures are those of every
shell: 127 for a program that is not found, 126 for one that is not executable.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath

from orchestrator import procfs

__all__ = ["DEFAULT_SIGNALS", "nondefault_signals", "package_of", "starting"]

DEFAULT_SIGNALS = ("env", "--default-signal")
"""What stands before a command whose starter ignores or blocks signals; GNU's, also unblocks them."""

# $0 is the node in words; then the file mode mask, the folder to start in (may be empty or missing), a hint
# for a program that is not there (may be empty), and the command. Its words are never read as shell code.
_START = """\
umask "$1"; [ -z "$2" ] || cd "$2" 2>/dev/null || cd /
_nm_hint=$3; shift 3; _nm_found=
_nm_look() {
    if [ -f "$1" ] && [ -x "$1" ]; then _nm_found=yes; elif [ -e "$1" ]; then : "${_nm_found:=no}"; fi
}
case $1 in
*/*) _nm_look "$1" ;;
*) set -f; IFS=:; for _nm_in in $PATH; do _nm_look "${_nm_in:-.}/$1"; done ;;
esac
case $_nm_found in
yes) exec "$@" ;;
no) printf '%s: not executable in %s\\n' "$1" "$0" >&2; exit 126 ;;
esac
printf '%s: not found in %s\\n' "$1" "$0" >&2
[ -z "$_nm_hint" ] || printf '    hint: %s\\n' "$_nm_hint" >&2
exit 127"""

_PACKAGES = {
    "bind9-dnsutils": "dig nslookup nsupdate delv",
    "bridge-utils": "brctl",
    "conntrack": "conntrack",
    "curl": "curl",
    "dnsmasq-base": "dnsmasq",
    "etcd-client": "etcdctl",
    "etcd-server": "etcd",
    "ethtool": "ethtool",
    "fping": "fping",
    "git": "git",
    "haproxy": "haproxy",
    "hping3": "hping3",
    "htop": "htop",
    "iperf": "iperf",
    "iperf3": "iperf3",
    "iproute2": "ip ss tc bridge nstat rtmon",
    "iptables": "iptables ip6tables iptables-save iptables-restore",
    "iputils-arping": "arping",
    "iputils-ping": "ping ping4 ping6",
    "iputils-tracepath": "tracepath",
    "mosquitto": "mosquitto",
    "mosquitto-clients": "mosquitto_pub mosquitto_sub",
    "mtr-tiny": "mtr",
    "net-tools": "ifconfig netstat route arp",
    "netcat-openbsd": "nc nc.openbsd netcat",
    "netperf": "netperf netserver",
    "nftables": "nft",
    "nginx-light": "nginx",
    "nmap": "nmap",
    "ngrep": "ngrep",
    "openmpi-bin": "mpirun mpiexec",
    "openssh-client": "ssh scp sftp ssh-keygen",
    "openssh-server": "sshd",
    "procps": "ps top free pgrep pkill watch sysctl uptime vmstat",
    "psmisc": "killall pstree fuser",
    "python3": "python3",
    "redis-server": "redis-server",
    "redis-tools": "redis-cli redis-benchmark",
    "rsync": "rsync",
    "socat": "socat",
    "sockperf": "sockperf",
    "strace": "strace",
    "tcpdump": "tcpdump",
    "telnet": "telnet",
    "traceroute": "traceroute traceroute6",
    "tshark": "tshark",
    "wget": "wget",
    "whois": "whois",
    "wrk": "wrk",
}
_PACKAGE_OF = {program: package for package, programs in _PACKAGES.items() for program in programs.split()}

_BY_PYTHON = (1 << 12) | (1 << 24)
"""SIGPIPE and SIGXFSZ: Python ignores them itself, and resets them in what `subprocess` starts."""


def starting(argv: Sequence[str], node: int, *, cwd: Path | None = None, advice: str = "") -> list[str]:
    """Return the command that, run inside a node, starts `argv` there.

    Args:
        argv: The program and its arguments.
        node: The node, for what is said of a program that is not there.
        cwd: The folder to start in; the root where it is missing. None leaves the folder as it is.
        advice: What to do to have a package there, for the hint; it is said where the package is known.
    """
    package = package_of(argv[0])
    hint = f"Debian has it in the package {package}{advice and f'; {advice}'}" if package else ""
    folder = "" if cwd is None else str(cwd)
    return ["/bin/sh", "-c", _START, f"node {node}", _own("Umask") or "0022", folder, hint, *argv]


def package_of(program: str) -> str | None:
    """Return the Debian package of a common network program, None where we know of none."""
    return _PACKAGE_OF.get(PurePath(program).name)


def nondefault_signals() -> bool:
    """Whether what this thread starts would ignore or block signals, apart from those that Python resets."""
    ignored, blocked = (int(_own(key) or "0", 16) for key in ("SigIgn", "SigBlk"))
    return bool(ignored & ~_BY_PYTHON or blocked)


def _own(key: str) -> str | None:
    """What the kernel says of the calling thread under this key."""
    return procfs.status(key, of="thread-self")
