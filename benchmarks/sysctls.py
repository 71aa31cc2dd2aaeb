"""Restore machine-wide kernel settings that a peer changed.

Mininet changes socket buffers, backlogs and more when it starts and does not restore them, which would change
what later benchmarks measure. `preserved()` wraps everything that may change such settings.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["PUBLISHED", "Preserved", "differences", "preserved", "snapshot"]

_ROOT = Path("/proc/sys")
# Trees that network tools change. Settings of single interfaces disappear with the interface.
_TREES = ("net/core", "net/ipv4", "net/unix", "fs", "kernel/pty", "vm")
_SKIP = ("net/ipv4/conf", "net/ipv4/neigh", "net/ipv4/route/flush", "vm/stat_refresh", "vm/drop_caches")
# Counters of the kernel; they change all the time.
_VOLATILE = frozenset({"fs/dentry-state", "fs/file-nr", "fs/inode-nr", "fs/inode-state", "fs/aio-nr"})

PUBLISHED = (
    "net/core/netdev_max_backlog",
    "net/core/rmem_max",
    "net/core/wmem_max",
    "net/core/default_qdisc",
    "net/ipv4/tcp_rmem",
    "net/ipv4/tcp_wmem",
    "net/ipv4/tcp_congestion_control",
    "net/ipv4/tcp_available_congestion_control",
)
"""The settings that a reader needs to compare two machines."""


@dataclass(slots=True)
class Preserved:
    """Settings at the start; `changed` is filled when the block ends."""

    before: Mapping[str, str]
    changed: dict[str, tuple[str, str]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)


def snapshot(root: Path = _ROOT) -> dict[str, str]:
    """Return all settings below the trees that network tools touch, by path such as `net/core/rmem_max`."""
    found = {}
    for tree in _TREES:
        for path in sorted((root / tree).rglob("*")):
            name = str(path.relative_to(root))
            if name in _VOLATILE or name.startswith(_SKIP) or not path.is_file():
                continue
            with contextlib.suppress(OSError, UnicodeDecodeError):
                found[name] = path.read_text(encoding="ascii").strip()
    return found


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return the settings whose value changed, as (before, after)."""
    return {
        name: (value, after[name]) for name, value in before.items() if name in after and after[name] != value
    }


@contextlib.contextmanager
def preserved(root: Path = _ROOT) -> Iterator[Preserved]:
    """Restore every setting that changed inside the block, and report which did."""
    state = Preserved(snapshot(root))
    try:
        yield state
    finally:
        changed = differences(state.before, snapshot(root))
        state.changed.update(changed)
        for name, (old, _) in changed.items():
            try:
                (root / name).write_text(old, encoding="ascii")
            except OSError:
                state.failed.append(name)
