"""Check that packets take the path that is measured, in the same command that measures it.

A throughput is meaningless if packets took another path, arrived corrupted, or skipped hops. Each
check returns the values that it compared, so that a reader can verify the result.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath

from benchmarks.commands import Background, run
from benchmarks.errors import BenchmarkError
from benchmarks.paths import Endpoint, Path

__all__ = ["Check", "check_path", "counters_agree", "parse_traceroute"]

STOP_SECONDS = 0.100
"""How long after the command a stream may go on when a link of its path is taken down."""

_PROGRAM = FilePath(__file__).with_name("transfer.py")
_PORT = 5302
_SEED = 7
# A segment carries 1448 bytes of payload in 1500; the rest allows for retransmissions and control packets.
_HEADERS_MAX = 1500 / 1448 * 1.02
_LINKS_AGREE = 0.01


@dataclass(frozen=True, slots=True)
class Check:
    """Result of one check."""

    path: str
    name: str
    ok: bool
    detail: str


def check_path(path: Path, *, transfer_bytes: int) -> list[Check]:
    """Run every check that applies to a path."""
    checks = [
        _guarded(path, "no kernel short cut", lambda: _no_short_cut(path)),
        _guarded(path, "traceroute shows every hop", lambda: _traceroute(path)),
        _guarded(path, "bytes arrive exactly", lambda: _transfer(path, transfer_bytes)),
    ]
    if path.link_bytes is not None:
        checks.append(_guarded(path, "counters equal bytes", lambda: _counters(path, transfer_bytes // 4)))
    if path.cut is not None:
        checks.append(_guarded(path, "link down stops the stream", lambda: _link_down(path)))
    return checks


def counters_agree(payload: int, deltas: Sequence[int]) -> tuple[bool, str]:
    """Check the links' counters against a transfer of `payload` bytes.

    Every link must have carried the payload and at most its headers and a few retransmissions more, and all
    links the same amount within 1 %.
    """
    fits = all(payload <= delta <= payload * _HEADERS_MAX for delta in deltas)
    agree = bool(deltas) and max(deltas) - min(deltas) <= _LINKS_AGREE * max(deltas)
    shares = _shortened([f"{delta / payload:.4f}" for delta in deltas])
    return fits and agree, f"bytes on each link / payload: {shares}"


def parse_traceroute(text: str) -> list[str]:
    """Return the address of each hop in the output of `traceroute -n -q 1`; `*` where there was no answer."""
    return re.findall(r"^\s*\d+\s+(\S+)", text, re.MULTILINE)


def _shortened(words: Sequence[str], ends: int = 3) -> str:
    if len(words) <= 2 * ends:
        return " ".join(words)
    return " ".join([*words[:ends], "…", *words[-ends:]])


def _guarded(path: Path, name: str, check: Callable[[], tuple[bool, str]]) -> Check:
    try:
        ok, detail = check()
    except BenchmarkError as error:
        ok, detail = False, str(error)
    return Check(path.name, name, ok, detail)


def _no_short_cut(path: Path) -> tuple[bool, str]:
    text = run(path.sender.argv("ip", "-j", "route", "get", path.receiver.address), timeout=10).stdout
    route = json.loads(text)[0]
    device = route.get("dev", "none")
    seen = f"route to {path.receiver.address} leaves by {device}"
    if path.only_devices:
        extra = sorted({*_strange_devices(path.sender), *_strange_devices(path.receiver)})
        if extra:
            return False, f"{seen}; other devices: {', '.join(extra)}"
        seen += ", no other device"
    return device == path.sender.interface, seen


def _strange_devices(end: Endpoint) -> list[str]:
    links = json.loads(run(end.argv("ip", "-j", "link", "show", "up"), timeout=10).stdout)
    return [link["ifname"] for link in links if link["ifname"] not in ("lo", end.interface)]


def _traceroute(path: Path) -> tuple[bool, str]:
    argv = ["traceroute", "-n", "-q", "1", "-w", "2", "-m", str(path.hops + 5), path.receiver.address]
    hops = parse_traceroute(run(path.sender.argv(*argv), timeout=60).stdout)
    ok = len(hops) == path.hops and hops[-1] == path.receiver.address and len(set(hops)) == len(hops)
    return ok and "*" not in hops, f"{len(hops)} of {path.hops} hops: {_shortened(hops)}"


def _transfer(path: Path, total: int) -> tuple[bool, str]:
    limit = 60 + total / 5e6
    with Background(path.receiver.argv(*_program("receive", path))) as receiver:
        receiver.wait_for_line("listening", timeout=15)
        sent = json.loads(
            run(path.sender.argv(*_program("send", path), str(total), str(_SEED)), timeout=limit).stdout
        )
        got = json.loads(receiver.finish(timeout=limit).stdout)
    ok = got["bytes"] == total and got["sha256"] == sent["sha256"]
    hashes = f"{got['sha256'][:16]}… against {sent['sha256'][:16]}…"
    return ok, f"{got['bytes']} of {total} bytes, SHA-256 {hashes}"


def _counters(path: Path, total: int) -> tuple[bool, str]:
    assert path.link_bytes is not None  # check_path asks only then
    before = path.link_bytes()
    arrived, detail = _transfer(path, total)
    if not arrived:
        return False, detail
    after = path.link_bytes()
    return counters_agree(total, [new - old for old, new in zip(before, after, strict=True)])


def _link_down(path: Path) -> tuple[bool, str]:
    assert path.cut is not None  # check_path asks only then
    with (
        Background(path.receiver.argv(*_program("watch", path))) as watcher,
        _flood_after(watcher, path),
    ):
        watcher.wait_for_line("connected", timeout=15)
        time.sleep(1.0)  # let the stream run at full speed first
        begin = time.monotonic()
        path.cut.down()
        done = time.monotonic()
        try:
            time.sleep(1.0)  # bytes that arrive in this second are what the check measures
            seen = json.loads(watcher.finish(timeout=10).stdout.splitlines()[-1])
        finally:
            path.cut.up()
    if seen["bytes"] == 0:
        return False, "nothing arrived before the link went down"
    after = max(0.0, seen["last_arrival"] - begin)
    detail = f"last byte {after * 1e3:.1f} ms after the command, which took {(done - begin) * 1e3:.1f} ms"
    return after <= STOP_SECONDS, detail


def _flood_after(watcher: Background, path: Path) -> Background:
    watcher.wait_for_line("listening", timeout=15)
    return Background(path.sender.argv(*_program("flood", path)))


def _program(command: str, path: Path) -> list[str]:
    return [sys.executable, "-I", str(_PROGRAM), command, path.receiver.address, str(_PORT)]
