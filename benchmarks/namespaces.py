"""Temporary network namespaces: the kernel paths used as references.

A chain of `n` hops is two end namespaces and `n - 1` routers, joined by `n` veth pairs with MTU 1500 and
their offloads on. Names contain the prefix `nmbench` and the process id, by which the next run
finds and removes what a killed run left behind.

Each device's packets are received on one CPU (receive packet steering). Without it packets of
one stream are received on several CPUs and reordered, TCP retransmits segments that were not lost, and the
reference is several times slower: 5 instead of 29 Gb/s on 2 virtual CPUs. Small datagrams are four times
faster without steering, so their reference is a chain without it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path as FilePath

from benchmarks.commands import require, run
from benchmarks.errors import NotRunnable
from benchmarks.paths import Cut, Endpoint, Path

__all__ = ["PREFIX", "empty", "loopback", "remove_leftovers", "veth_chain"]

PREFIX = "nmbench"
_MOUNTS = FilePath("/run/netns")
_IP_SECONDS = 30.0
_MAX_HOPS = 250  # one byte of 198.18.0.0/15, the network that RFC 2544 sets aside for benchmarks
_numbers = itertools.count(1)


@contextlib.contextmanager
def loopback() -> Iterator[Path]:
    """Yield the loopback device of a separate namespace: the upper bound of one TCP stream here."""
    with empty() as name:
        end = Endpoint(_enter(name), "127.0.0.1", "lo")
        yield Path("loopback", end, end, hops=1, mtu=65536)


@contextlib.contextmanager
def empty() -> Iterator[str]:
    """Yield the name of a namespace that has only a loopback device."""
    with _namespaces(1) as (name,):
        _batch([f"-n {name} link set lo up"])
        yield name


@contextlib.contextmanager
def veth_chain(hops: int, *, mtu: int = 1500, steered: bool = True) -> Iterator[Path]:
    """Yield a path of `hops` veth links through `hops - 1` router namespaces.

    Args:
        hops: Number of veth links.
        mtu: Of every device.
        steered: Whether each device's packets are received on one CPU.

    Raises:
        NotRunnable: `ip` is missing or may not create namespaces.
        ValueError: Fewer than 1 or more than 250 hops.
    """
    if not 1 <= hops <= _MAX_HOPS:
        raise ValueError(f"a chain has 1 to {_MAX_HOPS} hops, not {hops}")
    with _namespaces(hops + 1) as names:
        _batch(chain_commands(names, mtu=mtu))
        for name in names[1:-1]:
            run([*_enter(name), "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"], timeout=_IP_SECONDS)
        for name, device in chain_devices(names) if steered else ():
            file = f"/sys/class/net/{device}/queues/rx-0/rps_cpus"
            steer = f"[ ! -e {file} ] || echo {_last_cpu():x} > {file}"
            run(["ip", "netns", "exec", name, "sh", "-c", steer], timeout=_IP_SECONDS)
        middle = names[hops // 2]
        yield Path(
            name=f"veth-{hops}",
            sender=Endpoint(_enter(names[0]), _left(0), "right"),
            receiver=Endpoint(_enter(names[-1]), _right(hops - 1), "left"),
            hops=hops,
            mtu=mtu,
            link_bytes=lambda: [_transmitted(name, "right") for name in names[:-1]],
            cut=Cut(
                down=lambda: _batch([f"-n {middle} link set left down"]),
                up=lambda: _batch(_restore_commands(names, hops // 2)),
            ),
        )


def chain_commands(names: tuple[str, ...], *, mtu: int) -> list[str]:
    """Return the `ip -batch` lines that join the namespaces into a chain with routes to both ends."""
    hops = len(names) - 1
    lines = [f"-n {name} link set lo up" for name in names]
    for link, (a, b) in enumerate(itertools.pairwise(names)):
        lines += [
            f"link add right netns {a} mtu {mtu} type veth peer name left netns {b} mtu {mtu}",
            f"-n {a} addr add {_left(link)}/30 dev right",
            f"-n {b} addr add {_right(link)}/30 dev left",
            f"-n {a} link set right up",
            f"-n {b} link set left up",
        ]
    for position in range(len(names)):
        lines += _route_commands(names, position, hops)
    return lines


def chain_devices(names: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return every device of the chain with the namespace that it is in."""
    pairs = itertools.pairwise(names)
    return [end for a, b in pairs for end in ((a, "right"), (b, "left"))]


def _last_cpu() -> int:
    """CPU mask of the last CPU, where pinned relays run: steering to it makes the reference fastest."""
    return 1 << max(os.sched_getaffinity(0))


def remove_leftovers() -> list[str]:
    """Delete namespaces with `PREFIX` whose process is gone, and return their names."""
    removed = []
    for entry in sorted(_MOUNTS.glob(f"{PREFIX}-*")) if _MOUNTS.is_dir() else []:
        owner = entry.name.split("-")[1]
        if owner.isdecimal() and not FilePath(f"/proc/{owner}").exists():
            run(["ip", "netns", "delete", entry.name], timeout=_IP_SECONDS, check=False)
            removed.append(entry.name)
    return removed


def _route_commands(names: tuple[str, ...], position: int, hops: int) -> list[str]:
    """Return the routes of one namespace to the first and the last link, where it is not on them."""
    lines = []
    if position < hops - 1:
        lines.append(f"-n {names[position]} route add {_net(hops - 1)} via {_right(position)}")
    if position > 1:
        lines.append(f"-n {names[position]} route add {_net(0)} via {_left(position - 1)}")
    return lines


def _restore_commands(names: tuple[str, ...], position: int) -> list[str]:
    """Return the commands that set the left link up again and restore the routes that the kernel removed."""
    hops = len(names) - 1
    lines = [f"-n {names[position]} link set left up"]
    return lines + [
        line.replace("route add", "route replace")
        for place in (position - 1, position)
        for line in _route_commands(names, place, hops)
    ]


@contextlib.contextmanager
def _namespaces(count: int) -> Iterator[tuple[str, ...]]:
    if os.geteuid() != 0:
        raise NotRunnable("network namespaces for the references need root")
    require("ip", package="iproute2")
    require("nsenter", package="util-linux")
    run_number = next(_numbers)
    names = tuple(f"{PREFIX}-{os.getpid()}-{run_number}-{index}" for index in range(count))
    try:
        _batch([f"netns add {name}" for name in names])
        yield names
    finally:
        for name in names:
            if (_MOUNTS / name).exists():
                run(["ip", "netns", "delete", name], timeout=_IP_SECONDS, check=False)


def _batch(lines: list[str]) -> None:
    # `ip -batch` takes no `-n`, so lines of one namespace become one call and the rest another.
    for namespace, group in itertools.groupby(lines, key=_namespace_of):
        prefix = ["ip"] if namespace is None else ["ip", "-n", namespace]
        text = "".join(_without_namespace(line) + "\n" for line in group)
        run([*prefix, "-batch", "-"], timeout=_IP_SECONDS, stdin=text)


def _namespace_of(line: str) -> str | None:
    words = line.split()
    return words[1] if words[0] == "-n" else None


def _without_namespace(line: str) -> str:
    return line.split(maxsplit=2)[2] if line.startswith("-n ") else line


def _transmitted(namespace: str, device: str) -> int:
    text = run(["ip", "-n", namespace, "-s", "-j", "link", "show", "dev", device], timeout=_IP_SECONDS).stdout
    return int(json.loads(text)[0]["stats64"]["tx"]["bytes"])


def _enter(name: str) -> tuple[str, ...]:
    return ("nsenter", f"--net={_MOUNTS / name}", "--")


def _net(link: int) -> str:
    return f"198.18.{link}.0/30"


def _left(link: int) -> str:
    return f"198.18.{link}.1"


def _right(link: int) -> str:
    return f"198.18.{link}.2"
